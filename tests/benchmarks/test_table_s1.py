"""Table S1: its methods, and the time to the accuracy of the gradient."""

from benchmarks.paper import (
    methods,
    published,
    shapes,
    table_s1,
    table_s2,
)


def test_every_method_has_a_row_and_a_memory(measured):
    model = measured["table_s1"]["models"]["small"]
    lines = methods.methods(quick=True)
    assert len(model["rows"]) == len(lines)
    assert {row["memory"] for row in model["rows"]} == set(model["peaks"])
    assert {row["dtype"] for row in model["rows"]} == {"float32", "bfloat16", "float16"}
    assert all(len(row["curve"]) == len(row["clock"]) for row in model["rows"])


def test_ours_is_more_accurate_than_the_encoder_where_it_begins(measured):
    rows = measured["table_s1"]["models"]["small"]["rows"]
    ours = [row["nmse_db"] for row in rows if row["family"] == "ours"]
    assert max(ours) < rows[0]["nmse_db"]


def test_the_published_numbers_stand_beside_ours(measured):
    text = table_s1.markdown(measured["table_s1"])
    for number in ("-24.82 ± 1.08 dB, 31.7 s, 8.83 GB", "64.7 GB", "-17.82 ± 0.71"):
        assert number in text
    text = table_s2.markdown(measured["table_s2"])
    for number in ("-19.35", "-20.91", "-21.71", "-21.22", "-20.59"):
        assert number in text
    assert published.OPTIMIZERS["Adam"][0] == -21.85
    assert "| LaVie | the paper's Adam, 16 bit | 0.416 | 7.13 | 0.11 |" in shapes.markdown(
        measured["shapes"]
    )


def test_the_time_to_beat_is_the_least_of_any_gradient_setting(row):
    rows = [
        row("slow", "gradient", 3, -30, [10, 20, 30], [-10, -20, -30]),
        row("fast at first", "gradient", 3, -29, [10, 15, 25], [-20, -31, -29]),
        row("the paper's Adam", "paper", 3, -25, [5, 10, 15], [-10, -20, -25]),
        row("ours", "ours", 3, -40, [1, 3, 5], [-10, -30, -40]),
    ]
    reached = table_s1.time_to_accuracy(rows)
    assert (reached["target_db"], reached["target_of"]) == (-30, "slow, 3 steps")
    assert (reached["family"], reached["steps"], reached["milliseconds"]) == (
        "fast at first",
        2,
        15,
    )
    paper_adam, ours = reached["methods"]
    assert paper_adam["evaluations"] is None
    assert (ours["evaluations"], ours["milliseconds"]) == (2, 3)
    assert (ours["ratio_to_run"], ours["ratio"]) == (0.1, 0.2)
