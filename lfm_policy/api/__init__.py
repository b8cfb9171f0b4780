"""What notebooks and scripts call: from arrays to a deployed policy, in Python.

Everything here is exported by `lfm_policy` itself::

    from lfm_policy import Dataset, distill, evaluate, export, load_policy, train

    dataset = Dataset.from_episodes(episodes, fps=10)
    policy = train("own/state", dataset, output="runs/arm")
    student = distill(policy, nfe=1)
    print(evaluate(student, "lfm/PushT-v0", episodes=50))
    export(student, "exported")

The rooms below do the work (`lfm_policy.training`, `lfm_policy.evaluation`, ...) and are what
commands call; these functions take objects where commands take names, and return policies.
"""
