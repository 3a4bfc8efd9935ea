from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.data import near_duplicates as duplicates
from flukeprint.data.inspection import PhotoRecord
from flukeprint.data.near_duplicates import (
    close_pairs,
    columns_of,
    conflicting_labels,
    duplicate_pairs,
    near_duplicate_clusters,
)


def brute_force_pairs(hashes, max_bits):
    """All close pairs as sorted numbers i * N + j, i < j."""
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    i, j = np.nonzero(np.triu(distance <= max_bits, 1))
    return i * len(hashes) + j


def found_pairs(hashes, max_bits):
    """The pairs that the search finds, likewise; a pair found twice stands there twice."""
    pairs = [(np.minimum(i, j), np.maximum(i, j)) for i, j in close_pairs(hashes, max_bits)]
    return np.sort(np.concatenate([i * len(hashes) + j for i, j in pairs] or [np.zeros(0, np.int64)]))


def random_hashes(rng, count, varying):
    """Hashes that differ only in `varying` of the 64 bits: the fewer, the more crowded."""
    mask = np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, varying, replace=False).astype(np.uint64))
    return rng.integers(0, 1 << 64, count, dtype=np.uint64) & mask


def photos(rng, count, sizes=4):
    """Columns of photos with many near-duplicates: copies of a few, with some bits flipped and some noise."""
    originals = rng.integers(0, 256, (max(count // 4, 1), 4, 4))
    hashes = rng.integers(0, 1 << 64, len(originals), dtype=np.uint64)
    of = rng.integers(0, len(originals), count)
    flips = np.zeros(count, np.uint64)
    for bit in rng.integers(0, 64, (4, count)).astype(np.uint64):
        flips ^= (np.uint64(1) << bit) * (rng.random(count) < 0.7)
    noise = rng.integers(-36, 37, (count, 4, 4))
    return {
        "phash": hashes[of] ^ flips,
        "kind": rng.integers(0, sizes, count),
        "thumbnails": (originals[of] + noise).clip(0, 255).astype(np.uint8),
    }


def standardised(thumbnail):
    values = thumbnail.astype(float) - thumbnail.mean()
    return values / values.std() if values.std() > 0 else values


def by_the_rule(columns, max_bits=6, max_mse=0.07):
    """Apply the rule to all pairs, as it is written."""
    kinds = columns["kind"]
    pictures = [standardised(thumbnail) for thumbnail in columns["thumbnails"]]
    pairs = set()
    for i in range(len(pictures)):
        for j in range(i + 1, len(pictures)):
            bits = int(columns["phash"][i] ^ columns["phash"][j]).bit_count()
            alike = bits <= max_bits and ((pictures[i] - pictures[j]) ** 2).mean() <= max_mse
            if bits == 0 or (alike and (kinds is None or kinds[i] == kinds[j])):
                pairs.add((i, j))
    return pairs


def clusters_of(pairs, count):
    cluster = list(range(count))
    for i, j in sorted(pairs):
        old, new = cluster[j], cluster[i]
        cluster = [new if c == old else c for c in cluster]
    order = {c: number for number, c in enumerate(dict.fromkeys(cluster))}
    return [order[c] for c in cluster]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 120), varying=st.integers(1, 64), bits=st.integers(0, 8))
@pytest.mark.parametrize("small", [4, 32])
def test_candidates_equal_brute_force(small, seed, count, varying, bits):
    # Small buckets are compared pair by pair; with a low limit 120 hashes go through bands and recursion.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_SMALL", small)
        patch.setattr(duplicates, "_SAMPLE", small)
        hashes = random_hashes(np.random.default_rng(seed), count, varying)
        assert np.array_equal(found_pairs(hashes, bits), brute_force_pairs(hashes, bits))


@pytest.mark.parametrize("varying", [64, 40, 12])
def test_candidates_equal_brute_force_at_full_limits(varying):
    rng = np.random.default_rng(3)
    crowd = random_hashes(rng, 2500, varying) if varying > 12 else np.arange(1 << 12, dtype=np.uint64)[:2500]
    near = crowd[:50] ^ np.uint64(0b10011 << 30)
    hashes = np.unique(np.concatenate([crowd, near]))
    assert len(hashes) > duplicates._SMALL
    assert np.array_equal(found_pairs(hashes, 6), brute_force_pairs(hashes, 6))


def test_crowded_buckets_are_cut_again(monkeypatch):
    monkeypatch.setattr(duplicates, "_SMALL", 32)
    monkeypatch.setattr(duplicates, "_SAMPLE", 256)
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 1 << 64, 3000, dtype=np.uint64)
    hashes[:1000] >>= np.uint64(40)
    hashes[-100:] = hashes[:100] ^ np.uint64(0b111)
    sizes, cut = [], duplicates._masks
    monkeypatch.setattr(duplicates, "_masks", lambda rows, bits: sizes.append(len(rows)) or cut(rows, bits))
    assert np.array_equal(found_pairs(hashes, 6), brute_force_pairs(hashes, 6))
    assert len(sizes) > 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), same_size=st.booleans())
def test_pairs_and_clusters_follow_the_rule(seed, count, same_size):
    columns = photos(np.random.default_rng(seed), count)
    columns |= {} if same_size else {"kind": None}
    expected = by_the_rule(columns)
    pairs = duplicate_pairs(**columns)
    listed = list(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))
    assert listed == sorted(expected)
    assert near_duplicate_clusters(**columns).tolist() == clusters_of(expected, count)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_clusters_do_not_depend_on_the_order_of_photos(seed, count):
    rng = np.random.default_rng(seed)
    columns = photos(rng, count)
    order = rng.permutation(count)
    cluster = near_duplicate_clusters(**columns)
    shuffled = near_duplicate_clusters(**{name: column[order] for name, column in columns.items()})
    together = cluster[order][:, None] == cluster[order][None, :]
    assert np.array_equal(together, shuffled[:, None] == shuffled[None, :])


def test_chunks_do_not_change_the_result(monkeypatch):
    columns = photos(np.random.default_rng(5), 200)
    whole = near_duplicate_clusters(**columns)
    pairs = duplicate_pairs(**columns)
    monkeypatch.setattr(duplicates, "_CHUNK_PAIRS", 7)
    monkeypatch.setattr(duplicates, "_BLOCK_PAIRS", 3)
    assert np.array_equal(near_duplicate_clusters(**columns), whole)
    for small, large in zip(duplicate_pairs(**columns), pairs, strict=True):
        assert np.array_equal(small, large)


def columns(hashes, thumbnails):
    return {"phash": np.array(hashes, np.uint64), "thumbnails": np.stack(thumbnails)}


RAMP = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)


def test_equal_hashes_are_duplicates_whatever_the_kind_and_the_pixels():
    photos = columns([5, 9, 5], [RAMP, RAMP, RAMP[::-1]])
    assert near_duplicate_clusters(**photos, kind=np.array([0, 0, 1]), max_bits=0).tolist() == [0, 1, 0]


def test_near_hashes_need_like_pixels():
    photos = columns([0, 0b111], [RAMP, RAMP[::-1]])
    assert near_duplicate_clusters(**photos).tolist() == [0, 1]
    assert near_duplicate_clusters(**photos, max_mse=4.1).tolist() == [0, 0]


@pytest.mark.parametrize("change", [{"width": 99}, {"height": 99}, {"mode": "L"}])
def test_same_size_asks_for_size_and_mode(change):
    one = PhotoRecord("a.jpg", 100, 100, "RGB", phash=0, thumbnail=bytes(range(256)) * 4)
    other = replace(one, phash=1, **change)
    assert near_duplicate_clusters(**columns_of([one, other])).tolist() == [0, 0]
    assert near_duplicate_clusters(**columns_of([one, other], same_size=True)).tolist() == [0, 1]
    assert near_duplicate_clusters(**columns_of([one, replace(one, phash=1)], same_size=True)).tolist() == [0, 0]


@pytest.mark.parametrize(("bits", "together"), [(6, True), (7, False)])
def test_bits_are_bounded(bits, together):
    assert (near_duplicate_clusters(**columns([0, (1 << bits) - 1], [RAMP, RAMP])).tolist() == [0, 0]) == together


def test_a_chain_is_one_cluster():
    hashes = [(1 << (5 * k)) - 1 for k in range(8)]
    assert near_duplicate_clusters(**columns(hashes, [RAMP] * 8)).tolist() == [0] * 8


def test_pairs_tell_bits_and_difference():
    pairs = duplicate_pairs(**columns([0, 3, 0], [RAMP, RAMP // 2, RAMP]))
    assert pairs.i.tolist() == [0, 0, 1]
    assert pairs.j.tolist() == [1, 2, 2]
    assert pairs.bits.tolist() == [2, 0, 2]
    assert pairs.mse == pytest.approx([0, 0, 0], abs=1e-6)
    assert (pairs.mse >= 0).all()


def test_flat_thumbnails_are_like_each_other_only():
    flat = np.full((4, 4), 200, np.uint8)
    assert near_duplicate_clusters(**columns([0, 1, 2], [flat, flat // 2, RAMP])).tolist() == [0, 0, 1]


def test_many_copies_of_two_photos_take_no_quadratic_time():
    count = 6000
    hashes = np.where(np.arange(count) % 2, np.uint64(7), np.uint64(3))
    assert near_duplicate_clusters(**columns(hashes, [RAMP] * count)).tolist() == [0] * count


def test_conflicts():
    cluster = np.array([0, 1, 0, 2, 2, 1, 3, 3])
    labels = ["w_a", "w_b", "w_b", "w_c", "new_whale", "w_a", "w_d", "w_d"]
    assert conflicting_labels(cluster, labels) == [("w_a", "w_b", 2)]
    assert conflicting_labels(np.zeros(0, np.int64), []) == []
