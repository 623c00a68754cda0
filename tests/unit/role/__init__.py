"""The role decision, one concern per file; sentences are part of the contract."""
