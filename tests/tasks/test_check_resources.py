"""Room on a disk: what is free against what is needed."""

import shutil

from tasks.check_resources import CheckResourcesParams, disk_shortage

NOTHING_STAYS_FREE = CheckResourcesParams(min_free_fraction=0, min_free_gigabytes=0)


def test_a_disk_is_short_by_what_it_lacks(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert disk_shortage(str(tmp_path), NOTHING_STAYS_FREE, free // 2) is None
    shortage = disk_shortage(str(tmp_path), NOTHING_STAYS_FREE, 2 * free)
    assert shortage.needed_bytes == 2 * free
    assert abs(shortage.free_bytes - free) < 0.2 * free
    assert shortage.total_bytes == shutil.disk_usage(tmp_path).total


def test_what_is_to_stay_free_is_the_larger_of_share_and_room(tmp_path):
    total = shutil.disk_usage(tmp_path).total
    by_share = disk_shortage(str(tmp_path), CheckResourcesParams(min_free_fraction=0.999, min_free_gigabytes=0))
    assert abs(by_share.needed_bytes - 0.999 * total) < 1e6
    by_room = disk_shortage(str(tmp_path), CheckResourcesParams(min_free_fraction=0, min_free_gigabytes=1e9))
    assert by_room.needed_bytes == 10**18


def test_a_bucket_has_no_disk():
    assert disk_shortage("s3://bucket/prefix", CheckResourcesParams(min_free_fraction=0.999)) is None
