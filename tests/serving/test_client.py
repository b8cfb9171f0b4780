"""Our client against our server: the same as a local policy, and what happens when it is gone."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.serving import ApiKeys, tls_context
from lfm_runtime import PolicyServerError, WebsocketClientPolicy
from lfm_runtime.errors import InputError

WAIT = 20.0


def client(port: int, **options: Any) -> WebsocketClientPolicy:
    return WebsocketClientPolicy(port=port, **({"timeout": WAIT} | options))


def test_acts_as_the_policy_itself(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    local = make_toy()
    with client(start(make_toy()).port) as remote:
        assert remote.spec.obs_shapes == local.spec.obs_shapes
        assert remote.chunk_shape == local.chunk_shape
        assert remote.max_prefix == 2
        for policy in (local, remote):
            policy.sample_seed(3, 5)
        for episode in range(2):
            for policy in (local, remote):
                policy.reset()
                policy.sample_seed(3, episode)
            for step in range(11):
                given = obs(step)
                np.testing.assert_allclose(
                    local.select_action(given), remote.select_action(given), atol=1e-5
                )


def test_predicts_batches_row_by_row_with_the_noise_of_a_batch(
    start: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    local = make_toy()
    batch = {
        "state": np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        "camera": np.zeros((3, 2, 2, 3, 3), np.uint8),
    }
    prefix = np.ones((3, 1, 3), np.float32)
    with client(start(make_toy()).port) as remote:
        for policy in (local, remote):
            policy.sample_seed(1, 4)
        for _ in range(2):
            np.testing.assert_allclose(
                local.predict_action_chunk(batch), remote.predict_action_chunk(batch), atol=1e-5
            )
        np.testing.assert_array_equal(
            remote.predict_action_chunk(batch, prefix=prefix)[:, :1], prefix
        )
        for bad in (
            {**batch, "state": batch["state"][:2]},
            {**batch, "state": batch["state"] * np.nan},
            {"state": batch["state"]},
        ):
            with pytest.raises(InputError, match="observation"):
                remote.predict_action_chunk(bad)
        with pytest.raises(InputError, match="prefix has 3 actions"):
            remote.predict_action_chunk(batch, prefix=np.ones((3, 3, 3)))


def test_infer_is_openpis(start: Callable[..., Any], toy: Any, obs: Callable[..., Any]) -> None:
    with client(start(toy).port) as remote:
        assert remote.get_server_metadata()["name"] == "toy"
        answer = remote.infer(obs())
        assert answer["actions"].shape == (4, 3)
        assert remote.server_timing == answer["server_timing"]


def test_fake_obs_is_valid(start: Callable[..., Any], toy: Any) -> None:
    with client(start(toy).port) as remote:
        made = remote.fake_obs(3)
        assert made["state"].min() >= -1 and made["state"].max() <= 1
        assert remote.infer(made)["actions"].shape == (4, 3)


def test_an_error_says_why_and_the_next_call_works(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with client(start(toy).port) as remote:
        with pytest.raises(PolicyServerError, match=r"'state'\] are missing"):
            remote.infer({"camera": obs()["camera"]})
        with pytest.raises(PolicyServerError, match="not finite"):
            remote.infer(obs(2e6))
        assert remote.infer(obs())["actions"].shape == (4, 3)
        assert remote.connections_opened == 3


def test_reset_forgets_the_history_here_and_there(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy)
    with client(running.port) as remote:
        remote.infer(obs(1))
        remote.select_action(obs(1))
        remote.reset()
        assert running.metric("resets_total") == 1
        remote.select_action(obs(500))  # a new chunk, for the new episode
        assert running.metric("requests_total") == 3


def test_goes_on_after_a_restart_of_the_server(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    with client(first.port) as remote:
        remote.infer(obs(1))
        remote.infer(obs(2))
        first.stop()
        second = start(make_toy(), port=first.port)
        answer = remote.infer(obs(300))
        # The new connection has no history: 300 fills it.
        np.testing.assert_allclose(answer["actions"][:, :2], 300, atol=10)
        assert remote.connections_opened == 2
        assert second.metric("requests_total") == 1


def test_waits_for_a_server_that_comes_back_in_time(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    with client(first.port) as remote:
        first.stop()
        timer = threading.Timer(0.3, lambda: start(make_toy(), port=first.port))
        timer.start()
        assert remote.infer(obs())["actions"].shape == (4, 3)
        timer.join()


def test_says_that_the_server_is_gone_and_resets_without_it(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    with client(first.port, timeout=0.2) as remote:
        first.stop()
        for _ in range(2):
            with pytest.raises(ConnectionError, match="127.0.0.1"):
                remote.infer(obs())
            remote.reset()
        start(make_toy(), port=first.port)
        assert remote.select_action(obs()).shape == (3,)


def test_refuses_another_kind_of_policy_after_a_restart(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    with client(first.port) as remote:
        first.stop()
        start(make_toy(horizon=8), port=first.port)
        with pytest.raises(InputError, match="serves another policy now"):
            remote.infer(obs())


def test_a_late_answer_is_not_taken_for_the_next(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with client(start(toy).port, timeout=0.3) as remote:
        toy.hold.clear()
        with pytest.raises(TimeoutError, match="0.3 seconds"):
            remote.infer(obs(1000))
        toy.hold.set()
        remote._timeout = WAIT
        np.testing.assert_allclose(remote.infer(obs(5))["actions"][:, :2], 5, atol=10)


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(start(toy).port) as remote:
        remote.infer(obs(0))
        websocket = remote._connection._websocket

        def interrupted(timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(websocket, "recv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.infer(obs(1000))
        np.testing.assert_allclose(remote.infer(obs(5))["actions"][:, :2], 5, atol=10)
        assert remote.connections_opened == 2


def test_observations_of_many_numbers(start: Callable[..., Any], make_toy: Any) -> None:
    shapes = {"state": (3,), "camera": (2, 3, 3), "cloud": (2048, 3), "far": (5000,)}
    with client(start(make_toy(shapes)).port) as remote:
        low, high = remote.training_range("cloud")
        assert low.shape == (2048, 3) and (low == -1).all() and (high == 1).all()
        assert remote.infer(remote.fake_obs())["actions"].shape == (4, 3)


def test_keys(start: Callable[..., Any], toy: Any, obs: Callable[..., Any]) -> None:
    port = start(toy, keys=ApiKeys(["right"])).port
    for key in (None, "wrong"):
        with pytest.raises(InputError, match="API key"):
            client(port, api_key=key)
    with client(port, api_key="right") as remote:
        assert remote.infer(obs())["actions"].shape == (4, 3)


def test_waits_while_the_server_is_full(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    port = start(toy, max_connections=1).port
    with client(port) as remote:
        with pytest.raises(ConnectionError, match="503"):
            client(port, wait=0.2)
        threading.Timer(0.2, remote.close).start()
        with client(port) as second:
            assert second.infer(obs())["actions"].shape == (4, 3)


def test_tls(start: Callable[..., Any], toy: Any, obs: Callable[..., Any], tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes a certificate with the command openssl, which is absent")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    port = start(toy, tls=tls_context(certificate, key)).port
    trusting = ssl.create_default_context(cafile=str(certificate))
    with WebsocketClientPolicy("wss://127.0.0.1", port, ssl_context=trusting) as remote:
        assert remote.infer(obs())["actions"].shape == (4, 3)
    for host in ("wss://127.0.0.1", "127.0.0.1"):  # an unknown certificate; no TLS
        with pytest.raises(ConnectionError):
            WebsocketClientPolicy(host, port, wait=0.2)
