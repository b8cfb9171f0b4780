#!/usr/bin/env bash
# Builds the documentation into site/ and checks its links; anything doubtful is an error.
#
#   ./scripts/docs.sh                  builds site/, which needs no server and no network to be read
#   ./scripts/docs.sh --serve          builds, serves it on this machine, builds again on changes
#   ./scripts/docs.sh --run            builds, and executes every snippet and notebook (minutes)
#   ./scripts/docs.sh --external       builds, and asks whether the links to other sites answer
#
# Further arguments go to mkdocs.
set -euo pipefail
cd "$(dirname "$0")/.."
command=(build --strict)
external=0 run=0
case "${1:-}" in
  --serve) shift; command=(serve) ;;
  --external) shift; external=1 ;;
  --run) shift; run=1 ;;
esac
folder="$(./scripts/setup_venv.sh --folder)"
# What is installed is not installed again: that would need a network.
if ! "$folder/bin/python" -c "import lfm_policy, latex2mathml, material, mkdocs, mkdocstrings" 2>/dev/null; then
  ./scripts/setup_venv.sh docs
fi
# A notice about mkdocs 2, which is not used here.
export NO_MKDOCS_2_WARNING=1
"$folder/bin/python" -m mkdocs "${command[@]}" "$@"
if [ "$external" = 1 ]; then
  "$folder/bin/python" scripts/docs/external.py site
fi
echo "the documentation is in $PWD/site: open site/index.html"
if [ "$run" = 1 ]; then
  # The last runs docs/extending.md, whose parts lead to one another.
  exec ./scripts/test.sh tests/docs tests/plugins/test_outside.py
fi
