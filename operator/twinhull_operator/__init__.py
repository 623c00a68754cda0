"""The operator: turns MirrorModules into pods, and what their sidecars say into status and events."""
