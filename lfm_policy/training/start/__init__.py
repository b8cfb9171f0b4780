"""What a training starts from: random weights, or a policy that has learnt already.

A student that is trained on demonstrations stays one. Its blocks are asked once, at their noise
end, so that is where they learn: ``flow.time`` has the one time t = 1, and all blocks train on the
exact OU marginals, as nothing can be pushed forward through a network that knows one time only.
On 20 PushT demonstrations with the goal 50 pixels elsewhere, 400 steps take the error of the
executed actions of held-out episodes from 36 to 18 pixels at 2 evaluations; as velocities at all
times, which is the alternative, to 26 at 2 evaluations and to 21 at 8. In rollouts (1,500 steps,
n = 30, selection seeds) the score goes from .51 to .79, as velocities to .71 at 2 evaluations and
to .90 at 4; from nothing it is .16. So where there is the time, the teacher is trained on instead,
and distilled again.
"""
