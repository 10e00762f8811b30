"""`vlmprune sweep`: one run for every combination of settings; the failure of one does not stop the others.

All input is checked before the first job runs. A job is `vlmprune.run.run` with its plan, executed wherever the
launcher puts it. A sweep keeps no state that resuming needs: that is in the run directories.
"""

from __future__ import annotations

from vlmprune.sweep.jobs import Job, build_launcher, plan_jobs, split_settings

__all__ = ["Job", "plan_jobs", "sweep"]


def sweep(settings: list[str], config_dir: str | None) -> int:
    """Run every combination of `settings`; return the exit code: 1 if any job failed, 130 after Ctrl-C."""
    split = split_settings(settings, config_dir)
    jobs = plan_jobs(split.run_overrides, config_dir, split.baselines)
    launcher = build_launcher(split, config_dir)

    from vlmprune.sweep.execution import run_jobs  # imports torch, which a typo need not wait for

    return run_jobs(settings, jobs, launcher, split)
