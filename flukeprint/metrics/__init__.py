"""How good is it: rankings, open-set decisions, detection curves, boxes, calibration, and how sure one can be.

Conventions of every module here:

- N queries; `truth` is one label per query; `ranked` is one list of labels per query, best first (lists of any
  length, or an array N x K); a rank is 1 for the best and 0 for "not in the list".
- `weights` are one number >= 0 per query, by default all equal; only their ratios matter.
- `is_new` is true where the individual is not in the gallery, so that the right answer is "new whale".
- All results are shares in 0..1 unless said otherwise. A single figure is never NaN: one that does not exist is an
  error.
- ValueError: the caller passed arrays that do not fit together. FlukeprintError: the data cannot give this
  figure (say, no new whales among the queries); its message says what is missing.
"""
