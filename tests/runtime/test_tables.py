from edgecifar.runtime.tables import human_bytes, printable, table


def test_columns_are_aligned():
    text = table(("model", "us"), [("a", "1.0"), ("longer name", "100.0")])
    assert text.splitlines() == [
        "model           us",
        "a              1.0",
        "longer name  100.0",
    ]


def test_what_would_steer_a_terminal_is_shown():
    assert printable("\x1b[2J\x9b1m\r\n\x7f\u202eab\u2028") == (
        r"\x1b[2J\x9b1m\r\n\x7f\u202eab\u2028"
    )
    plain = "Käfer 甲虫 \U0001f469\u200d\U0001f33e \\ \udcff"
    assert printable(plain) == plain
    assert table(("model",), [("a\nb",)]).splitlines() == ["model", r"a\nb"]


def test_human_bytes():
    assert [human_bytes(n) for n in (0, 999, 98_496, 1_929_208, 3e9, 5e12)] == [
        "0 B",
        "999 B",
        "98.5 kB",
        "1.9 MB",
        "3.0 GB",
        "5000.0 GB",
    ]
