"""The table of benchmarks/other_tasks.py, with figures worked out by hand."""

from benchmarks.other_tasks import command_of, table


def test_the_command_names_the_seeds_of_each_student() -> None:
    runs = [("a", "micro", 1), ("a", "micro", 2), ("b", "micro", 1), ("b", "micro", 2)]
    rows = [
        {"data": data, "student": student, "seed": seed}
        for data, student, seed in [*runs, ("a", "nano", 1)]
    ]
    program = "python benchmarks/other_tasks.py FOLDER"
    assert command_of(rows) == (
        f"{program} a b --students micro --seeds 1 2 && {program} a --students nano --seeds 1"
    )


def test_seeds_are_averaged_and_the_student_divided_by_the_teacher() -> None:
    row = {"student": "nano", "bytes": {"teacher": 2_000_000, "student": 400_000}}
    of_first = {
        "teacher": {"accuracy": 0.8, "pearson": 0.8},
        "nano": {"accuracy": 0.6, "pearson": 0.2},
    }
    of_second = {
        "teacher": {"accuracy": 0.9, "pearson": 0.8},
        "nano": {"accuracy": 0.9, "pearson": 0.6},
    }
    ends = {"teacher": (0.7, 0.9), "nano": (0.5, 0.7), "nano / teacher": (0.6, 0.9)}
    lines = table(
        [
            row
            | {
                "models": of_first,
                "intervals": {name: {"accuracy": e, "pearson": e} for name, e in ends.items()},
                "agreement": {"teacher": 1.0, "student": 0.99},
                "text_ms": {"teacher/litert-int8": 3.0, "nano/litert-int8": 0.02},
            },
            row
            | {
                "models": of_second,
                "intervals": {},
                "agreement": {},
                "text_ms": {"teacher/litert-int8": 2.0, "nano/onnx-int8": 0.03},
            },
        ]
    ).splitlines()
    assert lines[0] == "| model | accuracy | pearson | MB | as float | ms |"
    # The deviation of 0.8 and 0.9 is 0.0707, of 0.6 and 0.9 0.2121; 0.6/0.8 = 0.75, 0.9/0.9 = 1.
    assert lines[2:] == [
        "| teacher | 85.0% ± 7.1 (70.0 to 90.0) | 0.800 ± 0.000 (0.700 to 0.900) "
        "| 2.0 | 100.0% | 2 |",
        "| nano | 75.0% ± 21.2 (50.0 to 70.0) | 0.400 ± 0.283 (0.500 to 0.700) "
        "| 0.4 | 99.0% | 0.02 |",
        "| nano / teacher | 87.5% ± 17.7 (60.0 to 90.0) | 50.0% ± 35.4 (60.0 to 90.0) |  |  |  |",
    ]
