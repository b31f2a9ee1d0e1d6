"""Which change did it: a phase's changes switched off and on as DVC experiments, and what each of them is worth."""
