"""Privacy attacks on diffusion models and the statistics that evaluate them.

Pure functions over numpy arrays and callables: nothing here touches a disk, a network, a torch
module or another package of this project. A ``score`` has one float64 per record, larger means
"more likely a member". What each attack assumes and costs is in ``docs/attacks.md``.
"""
