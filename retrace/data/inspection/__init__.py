"""`retrace inspect`: which format a folder has, what it holds, and a study file for it.

A format is one entry of `retrace.data.inspection.formats.RECOGNIZERS`: a function that looks at a `Folder` and returns
`Candidate`s, each with a block `data.source` and what belongs to it.
"""
