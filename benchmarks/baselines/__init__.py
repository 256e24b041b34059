r"""Rivals of `jaxgeo.fit_log_partition`: samples to log-partition or metric by published methods.

Each is `method(samples, parameters, *, key, domain, chart, progress=False, ...) -> Baseline`, for
`samples` (n, a, b), a periodic lattice of two values, or (n, L), a chain; `parameters` (n, d),
float32, uniform over `domain` (d, 2); `chart` the natural coordinates t → η of one point. All are
written afresh from the papers, and trained as our own method is: one optimiser
(`jaxgeo.training`), early stopping on an eighth of the samples held out, settings
chosen on a development seed (`Baseline.settings["tuned"]` says which).

The networks see a lattice through 3×3 convolutions of dilation 1, 2, 4 and 8, two more layers at
each site, and the mean over sites. Of two values a window has but 512 patterns, so the mean is the
counts of the patterns (taken once) times the layers' values on them: the same function, at a
hundredth of the work. Chains see two convolutions and means over at most 16 cells.
"""

from baselines.bregman import bregman_network as bregman_network
from baselines.data import Baseline as Baseline
from baselines.linear_fisher import linear_fisher as linear_fisher
from baselines.pca_vae import pca_vae as pca_vae
from baselines.statistic import mean_as_statistic as mean_as_statistic
