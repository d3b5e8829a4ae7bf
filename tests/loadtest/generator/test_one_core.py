"""The table of what one core can send, measured for moments only."""

import sys

from tests.support.processes import finished


def test_each_size_and_number_of_users_has_a_row_of_its_own() -> None:
    done = finished([sys.executable, "-m", "loadtest.generator.one_core", "0.1"])
    assert done.returncode == 0, done.stderr
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    found = [dict(zip(header, row, strict=True)) for row in rows]
    sizes = ("32x32 as FP32", "224x224 as UINT8", "224x224 as FP32")
    assert [(each["request"], each["users"]) for each in found] == [
        (name, str(users)) for name in sizes for users in (1, 8, 32)
    ]
    assert all(float(each["RPC/s"].replace(",", "")) > 0 and float(each["CPU us"]) > 0 for each in found)
