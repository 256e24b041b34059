"""Few samples that stand for many: the centroids of a kernel metric."""

import numpy as np
from jax.typing import ArrayLike


def kmeans_centroids(
    samples: ArrayLike, n: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The centres of `n` clusters and the cluster of every sample, by scikit-learn's k-means.

    **Arguments:** `samples`, `(N, ...)`; `n`, from 1 to N; `seed`.

    **Returns:** centres `(n, ...)`, labels `(N,)`.

    **Fails:** `ValueError` if `n` is no such number.

    **Example:**

    >>> centres, labels = kmeans_centroids(np.array([[0.0], [1.0], [9.0]]), 2)
    >>> sorted(centres.ravel().tolist())
    [0.5, 9.0]
    """
    data = np.asarray(samples)
    if data.ndim < 2 or not 1 <= n <= len(data):
        raise ValueError(
            f"`n` must lie between 1 and the number of samples (N, ...), got {n} and samples of "
            f"shape {data.shape}."
        )
    from sklearn.cluster import KMeans

    flat = data.reshape(len(data), -1).astype(np.float64)
    clusters = KMeans(n, n_init=4, random_state=seed).fit(flat)
    centres = clusters.cluster_centers_.reshape(n, *data.shape[1:])
    return centres.astype(np.result_type(data, np.float32)), clusters.labels_


def medoid_indices(samples: ArrayLike, n: int, *, seed: int = 0) -> np.ndarray:
    """`n` of the samples themselves: of every cluster of k-means the member that is nearest to
    all others, in sum of distances.

    What a Riemannian Hamiltonian VAE encodes as its centroids: a mean of images is no image.

    **Arguments, fails:** as `kmeans_centroids`. **Returns:** indices into `samples`, `(n,)`, or
    fewer where fewer samples are distinct.

    **Example:**

    >>> sorted(medoid_indices(np.array([[0.0], [1.0], [1.5], [9.0]]), 2).tolist())
    [1, 3]
    """
    data = np.asarray(samples)
    _, labels = kmeans_centroids(data, n, seed=seed)
    flat = data.reshape(len(data), -1).astype(np.float64)
    from scipy.spatial.distance import cdist

    chosen = []
    for k in np.unique(labels):  # fewer than n, if fewer samples are distinct
        members = np.flatnonzero(labels == k)
        sums = cdist(flat[members], flat[members]).sum(axis=1)
        chosen.append(members[np.argmin(sums)])
    return np.array(chosen)


def nearest_neighbor_distance(points: ArrayLike) -> float:
    """The median distance of a point to the nearest other one.

    A temperature for a `KernelMetric` about these centroids: its kernels just reach each other.
    (Chadebec & Allassonnière 2022 take the largest of these distances, which is smoother.)

    **Arguments:** `points`, `(n, ...)`, n ≥ 2. **Returns:** a number, in their units.

    **Example:**

    >>> nearest_neighbor_distance(np.array([[0.0], [1.0], [3.0]]))
    1.0
    """
    data = np.asarray(points)
    if data.ndim < 2 or len(data) < 2:
        raise ValueError(f"`points` must have shape (n, ...) with n ≥ 2, got {data.shape}.")
    from sklearn.neighbors import NearestNeighbors

    flat = data.reshape(len(data), -1)
    return float(np.median(NearestNeighbors(n_neighbors=1).fit(flat).kneighbors()[0]))
