from edgecifar.benchmarks.markdown import markdown_table


def test_a_table_of_names_and_numbers():
    rows = [("file", "top-1"), ("a|b", "90.0")]
    assert markdown_table(rows).splitlines() == [
        "| file | top-1 |",
        "| --- | ---: |",
        "| a\\|b | 90.0 |",
    ]
    assert markdown_table(rows, numbers=False).splitlines()[1] == "| --- | --- |"
