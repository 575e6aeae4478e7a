"""Pages say what they are of, and hide nothing: heads, contents, legends, columns."""

import re
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from report_examples import full_report
from throughtime.cli import main
from throughtime.report.figures import plot_sweep
from throughtime.report.pages import PageSection, check_sections, distinct
from training_examples import text, trainer

pytest.importorskip("matplotlib")


def many_tensors(count=14):
    report = full_report()
    one = next(iter(report.tensors.values()))
    return replace(report, tensors={f"gate {k}": one for k in range(count)})


def test_the_page_of_a_flow_says_what_it_is_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(text().characters)
    own = trainer()
    own.fit(3)
    own.save("m.safetensors")
    words = ["flow", "m.safetensors", "book.txt", "--steps", "12", "--batch", "2"]
    assert main([*words, "--html", "f.html"]) == 0
    capsys.readouterr()
    head = (tmp_path / "f.html").read_text(encoding="utf-8").split("<nav")[0]
    assert f"<dd>throughtime {' '.join(words)} --html f.html</dd>" in head
    assert "<dd>m.safetensors, after 3 updates</dd>" in head
    assert re.search(r"<dd>\S*book.txt, [\d,]+ characters</dd>", head)
    assert re.search(rf"<dd>20\d\d-\d\d-\d\d .*, throughtime {tt.__version__}</dd>", head)


def test_the_page_of_a_check_holds_its_command(tmp_path, capsys):
    (tmp_path / "t.py").write_text(
        "import numpy as np, throughtime as tt\nw = np.ones(3)\n"
        "target = tt.Target({'w': w}, lambda: (w**3).sum(), lambda: {'w': 3 * w**2})\n"
    )
    page = tmp_path / "p.html"
    assert main(["check", f"{tmp_path}/t.py:target", "--effort", "quick", "--html", str(page)]) == 0
    capsys.readouterr()
    assert f"<dd>throughtime check {tmp_path}/t.py:target --effort" in page.read_text("utf-8")


def test_a_page_by_hand_can_say_it_too(tmp_path):
    full_report().to_html(tmp_path / "p.html", about={"model": "<mine>"})
    assert "<dt>model</dt><dd>&lt;mine&gt;</dd>" in (tmp_path / "p.html").read_text("utf-8")


def test_names_in_the_contents_are_distinct():
    sections = [*check_sections(full_report(), "In float64"), PageSection("A sample")]
    sections += check_sections(full_report(), "In float32")
    names = distinct(sections)
    assert len(set(names)) == len(names)
    assert "In float64: what was seen" in names
    assert "In float32: what was seen" in names
    assert "A sample" in names


def test_a_column_without_a_word_is_left_out(tmp_path):
    w = np.ones(3)
    agreeing = tt.Target({"w": w}, lambda: float((w**3).sum()), lambda: {"w": 3 * w**2})
    wrong = replace(agreeing, gradient=lambda: {"w": 2 * w**2})
    for target, shown in ((agreeing, False), (wrong, True)):
        report = tt.check(target, effort="quick")
        table = next(check_sections(report, "t")).tables[0]
        assert ("worst entry" in table.headings) is shown
        assert table.headings[table.verdict] == "verdict"
        assert all(any(column) for column in zip(*table.rows, strict=True))
        assert {len(row) for row in table.rows} == {len(table.headings)}


def test_a_legend_covers_no_point():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes = many_tensors().plot()
    figure = axes.get_figure()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    legend = axes.get_legend().get_window_extent(renderer)
    inside = axes.get_window_extent(renderer)
    assert legend.x0 >= inside.x1 - 1
    assert legend.x1 <= figure.bbox.x1 + 1
    assert legend.y0 >= figure.bbox.y0 - 1


def test_no_two_tensors_in_a_legend_look_alike():
    axes = many_tensors().plot()
    drawn = [c.lines[0] for c in axes.containers if not str(c.get_label()).startswith("_")]
    looks = [(line.get_color(), line.get_fillstyle()) for line in drawn]
    assert len(drawn) == 14
    assert len(set(looks)) == len(looks)


def test_no_two_curves_of_a_sweep_look_alike():
    w = {f"w{k}": np.full(1, 0.3 + 0.1 * k) for k in range(9)}
    given = tt.Target(w, lambda: float(sum(np.sin(p[0]) for p in w.values())), lambda: {
        name: np.cos(p) for name, p in w.items()
    })  # fmt: skip
    axes = plot_sweep(tt.sweep(given))
    named = [line for line in axes.lines if str(line.get_label()).startswith("w")]
    assert len(named) == 9
    assert len({(line.get_color(), line.get_linestyle()) for line in named}) == 9
