"""Score the boxes of one split."""


def score_boxes(work, split, ids):
    raise NotImplementedError
