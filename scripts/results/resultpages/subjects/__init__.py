"""What is shown, a module per subject.

A module may have ``names(data)``, a dictionary of what its templates may use beside what
`resultpages.pages` gives them all, and ``pictures(data)``, a list of its figures; ``data`` is the
folder of the measurements.
"""
