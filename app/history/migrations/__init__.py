"""How a history of any earlier version becomes one of this version: numbered steps, only ever added to."""
