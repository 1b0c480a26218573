"""Rules and learners for one machine.

>>> from makespan.baselines.jobshop.single_machine import RULES, Learner
>>> from makespan.envs.jobshop.single.simulator import SingleMachine, run
>>> from makespan.traces.jobshop.single_machine import MachineJobs
>>> jobs = MachineJobs.of([3, 1, 4], type=[0, 1, 0])
>>> run(SingleMachine(jobs), RULES["fifo"]).flow_time()
15.0
>>> run(SingleMachine(jobs), Learner("etc_rr")).flow_time()
14.0
"""

from makespan.baselines.jobshop.single_machine.learners import LEARNERS, Learner
from makespan.baselines.jobshop.single_machine.rules import RULES

__all__ = ["LEARNERS", "RULES", "Learner"]
