"""IMDSv2: the formats of what EC2 announces to an instance."""

import json
import re
from email.utils import parsedate_to_datetime

import pytest

from zdd_lab.model.notices import SPOT_NOTICE, NoticeKind, text

AT = 1_548_061_243.0  # 21 Jan 2019 09:00:43 GMT


def test_a_spot_notice_has_the_action_and_its_time_in_utc():
    assert text(NoticeKind.SPOT, AT, "i-1") == '{"action":"terminate","time":"2019-01-21T09:00:43Z"}'


def test_a_spot_notice_comes_two_minutes_ahead():
    assert SPOT_NOTICE == 120


def test_a_rebalance_recommendation_has_its_notice_time():
    assert text(NoticeKind.REBALANCE, AT, "i-1") == '{"noticeTime":"2019-01-21T09:00:43Z"}'


def test_scheduled_maintenance_is_an_array_with_times_like_21_jan_2019_09_00_43_gmt():
    (event,) = json.loads(text(NoticeKind.MAINTENANCE, AT, "i-0d59937288b749b32"))
    assert event["NotBefore"] == "21 Jan 2019 09:00:43 GMT"
    assert parsedate_to_datetime(event["NotAfter"]) > parsedate_to_datetime(event["NotBefore"])
    assert (event["Code"], event["State"]) == ("system-reboot", "active")
    assert re.fullmatch(r"instance-event-\w{17}", event["EventId"])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (NoticeKind.SPOT, "spot/instance-action"),
        (NoticeKind.REBALANCE, "events/recommendations/rebalance"),
        (NoticeKind.MAINTENANCE, "events/maintenance/scheduled"),
    ],
)
def test_each_notice_has_its_metadata_path(kind: NoticeKind, path: str):
    assert kind.path == path
