"""Objects found by their centres: by hand, against an optimal assignment, and properties of any objects."""

from math import isnan

import numpy as np
import pytest
from object_samples import random_objects, renumbered
from scipy.ndimage import center_of_mass
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from evaluation.metrics.detection import count_detections, detection_f1, detection_precision, detection_recall
from evaluation.metrics.metric import BinaryCounts
from evaluation.metrics.object_pair import ObjectPair

SCORES = (detection_f1, detection_precision, detection_recall)


def points(*places: tuple[int, int]) -> np.ndarray:
    """Return an object of one pixel at each place."""
    objects = np.zeros((40, 40), int)
    for number, place in enumerate(places, start=1):
        objects[place] = number
    return objects


def test_eight_micrometres_are_near_and_more_are_not() -> None:
    reference = points((0, 0))
    for place, found in (((3, 4), 1), ((4, 4), 0)):  # 3, 4 at 1.6 um: 8 um
        pair = ObjectPair(points(place), reference, (1.6, 1.6))
        assert count_detections(pair) == BinaryCounts(found, 1 - found, 1 - found)


def test_sixteen_pixels_are_near_where_the_spacing_is_unknown() -> None:
    assert count_detections(ObjectPair(points((16, 0)), points((0, 0)))) == BinaryCounts(1, 0, 0)
    assert count_detections(ObjectPair(points((16, 1)), points((0, 0)))) == BinaryCounts(0, 1, 1)


def test_the_spacing_of_each_axis_counts() -> None:
    mask, reference = points((0, 3)), points((0, 0))
    assert count_detections(ObjectPair(mask, reference, (1.0, 2.0))).true_positives == 1
    assert count_detections(ObjectPair(mask, reference, (1.0, 3.0))).true_positives == 0


def test_centres_are_matched_once_and_as_many_as_possible() -> None:
    assert count_detections(ObjectPair(points((0, 0), (0, 1)), points((0, 0)))) == BinaryCounts(1, 1, 0)
    # 10 is near to 0 and to 20, 30 to 20 alone: matching 10 with 20, which is as near as 0, would lose one
    pair = ObjectPair(points((10, 0), (30, 0)), points((0, 0), (20, 0)))
    assert count_detections(pair) == BinaryCounts(2, 0, 0)


def test_scores_counted_by_hand() -> None:
    pair = ObjectPair(points((0, 0), (0, 39), (39, 39)), points((0, 2), (39, 0)))
    assert [score(pair) for score in SCORES] == pytest.approx([2 / 5, 1 / 3, 1 / 2])


def test_without_objects_there_is_no_value_and_on_one_side_the_worst() -> None:
    empty, one = points(), points((1, 1))
    assert all(isnan(score(ObjectPair(empty, empty))) for score in SCORES)
    for pair in (ObjectPair(one, empty), ObjectPair(empty, one)):
        assert [score(pair) for score in SCORES] == [0, 0, 0]
    assert [score(ObjectPair(one, one)) for score in SCORES] == [1, 1, 1]


def test_it_is_the_optimal_assignment() -> None:
    for mask, reference, spacing_um in random_objects():
        pair = ObjectPair(mask, reference, spacing_um)
        centres = [
            np.array(center_of_mass(objects > 0, objects, np.unique(objects[objects > 0]))).reshape(-1, objects.ndim)
            * spacing_um
            for objects in (mask, reference)
        ]
        is_near = cdist(*centres) <= 8
        found = int(is_near[linear_sum_assignment(is_near, maximize=True)].sum())
        assert count_detections(pair) == BinaryCounts(found, len(centres[0]) - found, len(centres[1]) - found)


def test_how_objects_are_numbered_does_not_matter() -> None:
    for mask, reference, spacing_um in random_objects(50):
        pair = ObjectPair(renumbered(mask, 1), renumbered(reference, 2), spacing_um)
        assert count_detections(pair) == count_detections(ObjectPair(mask, reference, spacing_um))


def test_a_crowd_within_the_distance_costs_memory_by_its_number() -> None:
    crowd = np.arange(1, 10_001).reshape(100, 100)
    pair = ObjectPair(crowd, crowd[::-1], (0.01, 0.01))  # all within 1.5 um of each other: 100 million pairs
    assert count_detections(pair) == BinaryCounts(10_000, 0, 0)
