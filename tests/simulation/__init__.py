"""Planners and the reconciler against a cluster in memory, in virtual time, with everything going wrong that can.

`world.World` holds the parts together: `cluster` (API server), `nodes` (Job controller, kubelets, Kueue), `store` (S3)
and `operator`: the queue, the reconciler and all that it works with are the operator's own, up to the calls of its
client (`client`), the watches that feed its store of objects (`views`), and S3 itself. What befalls its writes, crashes
included, and its views is in `faults`. A kind is plugged in by its
planner, `World({"TuningSweep": tuning.plan})`, and by a controller that plays its pods, as `trainer.Trainer` does for
training. `chaos` has the faults that any kind can suffer; `one_owner` adds those of gangs, `one_job` and `one_sweep`
those of their kinds. `deployments` plays Deployments and servers, `traffic` the requests to them, and `alerts`
Alertmanager; `one_deployment` is a ModelDeployment alone, `one_loop` one with a DriftPolicy and its retrainings.
`World` checks after every step that one attempt lives and that aliases are complete, the rules of `kstatus` at every
status write, and whatever is in `World.invariants`.
"""
