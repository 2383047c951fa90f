"""The job queue and its schedule; a job calls a service and holds no logic."""
