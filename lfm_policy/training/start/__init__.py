"""What a training starts from: random weights, or a policy that has learnt already.

A student that is trained on demonstrations stays one. Its blocks are asked once, at their noise
end, so that is where they learn: ``flow.time`` has the one time t = 1, and all blocks train on the
exact OU marginals, as nothing can be pushed forward through a network that knows one time only.
On 20 PushT demonstrations with the goal 50 pixels elsewhere, 400 steps take the error of the
executed actions of held-out episodes from 36 to 18 pixels at 2 evaluations; as velocities at all
times, which is the alternative, to 26 at 2 evaluations and to 21 at 8.
"""
