"""How many planted label errors `retrace label-check` ranks first: `python -m benchmarks.label_errors`.

Run in the folder of a project whose study has been evaluated. Of the labels of val and test, 5 % are spoiled in four
ways, each again and again with other draws; then they are ranked with the predictions that `evaluate` left. The model
did not see these labels, as in `label-check`, but its training labels are as they were drawn.
"""
