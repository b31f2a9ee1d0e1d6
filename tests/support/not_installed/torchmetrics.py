"""Stages that tests start find no torchmetrics, as in a user's environment, which has no package of dev.txt.

Lightning Fabric imports torchmetrics wherever it is installed: 1.5 seconds for every process.
"""

raise ImportError("torchmetrics is hidden from the stages that tests start")
