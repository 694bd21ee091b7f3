"""Table of the service's faults: each row names the tests that cover it, or why there is none."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SHOWN = {
    "H01": "faults/test_sockets.py::test_odd_bytes service/uploads/test_upload_refusals.py",
    "H02": "service/uploads/test_upload_refusals.py",
    "H03": "faults/test_sockets.py::test_h03_a_thousand_half_sent_headers faults/test_sockets.py::test_h03_fifty_slow_bodies",
    "H04": "service/uploads/test_upload_faults.py::test_H04_a_cut_request_leaves_nothing",
    "H05": "faults/test_process.py::test_h05_work_that_nobody_waits_for_is_ended",
    "H06": "service/jobs/test_jobs.py::test_a_key_of_the_clients_own_is_accepted_once",
    "H07": "service/uploads/test_upload_refusals.py",
    "H08": "service/uploads/test_upload_refusals.py faults/test_audit.py::test_h08_addresses_in_the_place_of_images",
    "H09": "service/jobs/test_jobs.py::test_h09_bodies_that_are_refused",
    "H10": "service/jobs/test_jobs.py::test_h10_the_body_has_to_be_json",
    "H11": "faults/test_sockets.py::test_odd_bytes",
    "H12": "service/http/test_headers.py::test_nothing_of_the_clients_becomes_a_header",
    "H13": "faults/test_sockets.py::test_odd_bytes",
    "H14": "service/jobs/test_jobs.py::test_h14_ids_that_are_nobodys",
    "H15": "service/jobs/test_jobs.py::test_h15_results_before_and_beside",
    "H16": "faults/test_process.py::test_h16_a_full_queue_says_when_to_come_again",
    "H17": "faults/test_process.py::test_h17_a_call_that_takes_too_long_is_ended",
    "H18": "service/http/test_headers.py::test_a_page_of_the_list"
    " service/http/test_headers.py::test_no_page_of_another_site_by_default",
    "H19": "service/jobs/test_jobs.py::test_parts_of_a_result",
    "H20": "faults/test_slow_clients.py::test_h20_a_hundred_who_read_slowly",
    "P01": "faults/test_kills.py::test_p01_p02_twenty_kills",
    "P02": "faults/test_process.py::test_p02_a_poison_job_ends",
    "P03": "service/engine/test_engine.py::test_a_hanging_engine_is_ended",
    "P04": "faults/test_slow_clients.py::test_p04_an_engine_without_memory",
    "P05": "faults/test_process.py::test_p05_a_server_that_is_stopped_goes_on_later",
    "P06": "faults/test_process.py::test_p06_a_full_disk service/uploads/test_upload_faults.py::test_P06_room_is_promised_once",
    "P07": "faults/test_process.py::test_p07_no_descriptor_is_left faults/test_process.py::test_p07_a_disk_that_fails",
    "P08": "faults/test_process.py::test_p08_one_server_a_store faults/test_process.py::test_p08_a_store_that_is_a_link",
    "P09": "faults/test_process.py::test_p09_a_database_that_is_damaged",
    "P10": "service/jobs/test_jobs.py::test_p10_a_result_that_was_changed_on_the_disk",
    "P11": "faults/test_clock.py::test_p11_a_clock_that_is_set_while_it_works",
    "P12": "faults/test_process.py::test_p12_a_store_with_much_that_was_left",
    "P13": "faults/test_power.py",
    "P14": "faults/test_process.py::test_p14_a_model_that_is_lost_while_it_is_served",
    "P15": "service/engine/test_engine.py::test_models_that_are_broken_dont_keep_the_others_from_it",
    "P17": "faults/test_slow_clients.py::test_p17_many_bad_inputs_in_a_row faults/test_load.py",
    "P18": "faults/test_process.py::test_p18_nobody_reads_the_log",
    "X01": "service/http/test_access.py::test_no_route_without_a_good_key"
    " faults/test_process.py::test_x01_events_end_with_their_key"
    " service/http/test_access.py::test_odd_paths_arent_open",
    "X02": "service/test_keys.py::test_secrets_are_compared_in_constant_time",
    "X03": "service/packaging/test_packaging.py",
    "X04": "models/test_bundle.py::test_a_pickle_in_the_weights_place_is_refused_and_never_run",
    "X05": "training/resuming/test_checkpoint.py::test_files_that_are_no_checkpoint_of_this_run",
    "X06": "configs/test_schema.py::test_environment_is_not_interpolated configs/test_schema.py::test_no_yaml_mapping",
    "X07": "datasets/test_layouts.py",
    "X08": "service/uploads/test_upload_refusals.py faults/test_catalogue.py",
    "X09": "evaluation/report/test_score_pages.py",
    "X10": "faults/test_canaries.py::test_x10_the_log_has_a_line_an_event",
    "X11": "faults/test_canaries.py::test_x11_not_in_errors faults/test_canaries.py::test_x11_not_on_the_disk_afterwards",
    "X12": "faults/test_canaries.py::test_x12_errors_say_nothing_of_the_inside",
    "X13": "faults/test_process.py::test_x13_one_who_floods_leaves_seats service/http/test_access_limits.py "
    "service/engine/test_device_scheduler.py::test_one_who_sends_many_doesnt_keep_the_others_waiting",
    "X14": "faults/test_process.py::test_x14_nobody_else_reads_the_store",
    "X15": "disk/test_lock.py",
    "X16": "faults/test_audit.py::test_x16_work faults/test_audit.py::test_violations_are_reported",
    "X17": "faults/test_slow_clients.py::test_x17_long_values_are_refused_soon",
}
NOT_SHOWN = {
    "P16": "takes a GPU",
}
EXPECTED = [f"{group}{number:02}" for group, count in (("H", 20), ("P", 18), ("X", 17)) for number in range(1, count + 1)]


def test_every_row_has_its_place() -> None:
    assert sorted([*SHOWN, *NOT_SHOWN]) == sorted(EXPECTED)


@pytest.mark.parametrize("row", EXPECTED)
def test_row(row: str) -> None:
    if row in NOT_SHOWN:
        pytest.skip(NOT_SHOWN[row])
    for place in SHOWN[row].split():
        file, _, name = place.partition("::")
        found = [node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)]
        assert name in found if name else any(each.startswith("test_") for each in found)
