"""What a report becomes: JSON that its schema describes, JUnit XML, figures, a page."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import derived_cells
import throughtime as tt
from report_examples import (
    fault_at_two_steps,
    fault_of_large_weights,
    full_report,
    network_report,
    plain_report,
)
from throughtime.cli import main
from throughtime.report.check_figures import TENSORS_IN_LEGEND
from throughtime.report.pages import PageSection, Table, write_page

SCHEMA = json.loads(
    resources.files("throughtime.report").joinpath("schema.json").read_text("utf-8")
)
REPORTS = {
    "everything": full_report,
    "as little as there may be": plain_report,
    "a network": network_report,
    "a network in float32": lambda: network_report("float32"),
}


@pytest.fixture(params=REPORTS, scope="module")
def report(request):
    return REPORTS[request.param]()


# --- the headline ---

ELSEWHERE = {
    "T = 2": (fault_at_two_steps, "at T = 2"),
    "characteristic": (fault_of_large_weights, "at the characteristic point"),
}


@pytest.mark.parametrize("name", [*ELSEWHERE, "as given"])
def test_text_json_page_and_junit_have_the_same_number_in_their_headline(name, tmp_path):
    make, where = ELSEWHERE.get(name, (lambda: fault_at_two_steps(6), ""))
    report = tt.check(make(), diagnose=False)
    wrong = [point for point in report.points if point.verdict == "disagree"]
    worst = max(point.discrepancy for point in wrong)
    assert (report.decisive.name, report.decisive.discrepancy) == (name, worst)
    assert worst > 0.05
    d, floor = f"{worst:.3g}", f"{report.decisive.floor:.2g}"
    place = f" {where}" if where else ""
    line = (
        f"DISAGREE: the gradient and the numerical one are d = {d} apart{place}; "
        f"rounding alone would give {floor}"
    )
    for write in ("json", "junit", "html"):
        getattr(report, f"to_{write}")(tmp_path / write)
    data = json.loads((tmp_path / "json").read_text("utf-8"))
    Draft202012Validator(SCHEMA).validate(data)
    assert data["headline"] == {
        "text": line,
        "point": name,
        "discrepancy": worst,
        "floor": report.decisive.floor,
    }
    assert data["discrepancy"] == report.discrepancy == report.points[0].discrepancy
    suite = ElementTree.parse(tmp_path / "junit").getroot()
    told = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (told["headline"], told["point"], told["discrepancy"]) == (line, name, str(worst))
    assert str(report).splitlines()[0] == line
    assert suite.find(".//system-out").text.splitlines()[0] == line
    assert f"{line}." in (tmp_path / "html").read_text("utf-8")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_tensors_of_the_point_that_disagrees_come_first(name, tmp_path):
    make, where = ELSEWHERE[name]
    report = tt.check(make(), diagnose=False)
    first, second = (str(report).split("\n\n")[k].splitlines() for k in (1, 2))
    assert first[0] == f"{where.replace('at', 'At', 1)}:"
    assert second[0] == "As given:"
    assert any("disagree" in line for line in first)
    assert not any("disagree" in line for line in second)
    report.to_html(tmp_path / "page")
    page = (tmp_path / "page").read_text("utf-8")
    assert page.index(f"Tensors, {where}") < page.index("Tensors, as given")
    assert "as given: agree, d = " in page


# --- JSON ---


def test_json_fits_its_schema(report, tmp_path):
    report.to_json(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(data)


def test_the_schema_describes_every_key():
    data = json.loads(json.dumps(full_report().as_dict()))
    strict = json.loads(json.dumps(SCHEMA), object_hook=_closed)
    Draft202012Validator(strict).validate(data)
    data["tensors"]["0.W"]["colour"] = "red"
    assert not Draft202012Validator(strict).is_valid(data)


def _closed(value):
    """The schema, with no key beside those that it describes."""
    keys = value.get("properties")
    return value | ({"additionalProperties": False} if isinstance(keys, dict) else {})


def test_the_schema_refuses_what_is_no_report():
    for change in ({"version": 1}, {"verdict": "fine"}, {"evaluations": -1}, {"tensors": []}):
        data = json.loads(json.dumps(full_report().as_dict())) | change
        assert not Draft202012Validator(SCHEMA).is_valid(data)


# --- JUnit XML ---


def test_junit_has_a_case_for_each_tensor_at_each_point(tmp_path):
    report = full_report()
    report.to_junit(tmp_path / "junit.xml")
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    (suite,) = suites
    counted = {"tests": "4", "failures": "1", "skipped": "1", "errors": "0"}
    for element in (suites, suite):
        assert {key: element.get(key) for key in counted} == counted
    cases = {(case.get("classname"), case.get("name")): case for case in suite.iter("testcase")}
    assert set(cases) == {
        ("gradient.as given", "0.W"),
        ("gradient.as given", "0.U"),
        ("gradient.as given", "0.b <tag> & more"),
        ("gradient.T = 1", "0.W"),
    }
    failure = cases["gradient.as given", "0.U"].find("failure")
    assert failure.get("message") == "0.U, as given: d = 0.5, error bars alone would give 1e-09"
    assert failure.text.splitlines()[1].split()[:2] == ["0.U", "disagree"]
    skipped = cases["gradient.as given", "0.b <tag> & more"].find("skipped").get("message")
    assert skipped.startswith("unresolved: d = ")
    assert skipped.endswith("; compute the loss in float64")
    assert list(cases["gradient.T = 1", "0.W"]) == []
    assert suite.find("system-out").text.strip() == str(report).strip()
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["verdict"] == "disagree"


def test_junit_is_xml_whatever_a_tensor_is_called(tmp_path):
    found = full_report()
    odd = "W\x00\x1b[31m\ud800"
    found.points[0].tensors[odd] = found.points[0].tensors.pop("0.U")
    found.to_junit(tmp_path / "junit.xml")
    names = [c.get("name") for c in ElementTree.parse(tmp_path / "junit.xml").iter("testcase")]
    assert "W��[31m�" in names


# --- figures ---


def test_a_colour_for_each_tensor_a_line_and_rings_about_wrong_entries():
    report = full_report()
    ax = report.plot()
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["located as wrong", *report.tensors]
    rings = next(line for line in ax.lines if line.get_label() == "located as wrong")
    wrong = report.tensors["0.U"].wrong
    np.testing.assert_array_equal(rings.get_ydata(), [entry.gradient for entry in wrong])
    diagonal = next(line for line in ax.lines if (line.get_xdata() == line.get_ydata()).all())
    assert diagonal.get_xdata()[-1] == pytest.approx(
        max(np.abs(t.numerical).max() for t in report.tensors.values()), rel=2
    )
    colours = {c.lines[0].get_color() for c in ax.containers}
    assert len(colours) == 3


def test_many_tensors_share_a_legend_that_ends():
    report = full_report()
    for k in range(20):
        report.tensors[f"more {k}"] = report.tensors["0.W"]
    legend = report.plot().get_legend()
    assert legend.get_title().get_text() == "14 of 23 tensors"
    assert len(legend.get_texts()) == TENSORS_IN_LEGEND + 1


def test_figures_are_drawn_where_they_are_wanted(report):
    from matplotlib.figure import Figure

    upper, lower = Figure().subplots(2)
    assert report.plot(upper) is upper
    if report.valley is None:
        with pytest.raises(
            ValueError, match="valley: expected a check that chose a step, got none"
        ):
            report.plot_valley(lower)
    else:
        assert report.plot_valley(lower) is lower


def test_what_has_no_numerical_derivative_is_left_out():
    report = full_report()
    tensor = report.tensors["0.W"]
    tensor.numerical[:5], tensor.errors[:5] = np.nan, np.inf
    dots = next(c for c in report.plot().containers if c.get_label() == "0.W")
    np.testing.assert_array_equal(dots.lines[0].get_ydata(), tensor.gradient[5:])


def test_the_valley_shows_noise_truncation_and_the_step():
    report = full_report()
    valley = report.valley
    lines = {line.get_label(): line for line in report.plot_valley().lines}
    assert set(lines) == {
        "noise, as 1/h",
        "truncation, as h⁴",
        "error bar up to h",
        "step chosen, 0.01",
    }
    assert set(lines["step chosen, 0.01"].get_xdata()) == {0.01}
    np.testing.assert_array_equal(
        lines["error bar up to h"].get_ydata(), valley.noise + valley.truncation
    )
    for label, values in (
        ("noise, as 1/h", valley.noise),
        ("truncation, as h⁴", valley.truncation),
    ):
        h, line = np.log(lines[label].get_data())
        drawn = np.interp(np.log(valley.steps), h, line)
        np.testing.assert_allclose(drawn, np.log(values), rtol=1e-10)


def test_numbers_that_no_axis_can_hold_are_left_out():
    report = full_report()
    report.valley.noise[:3] = [np.inf, np.nan, 1e-9]
    report.valley.truncation[2] = -1
    line = next(x for x in report.plot_valley().lines if x.get_label() == "error bar up to h")
    assert len(line.get_ydata()) == len(report.valley.noise) - 3


# --- the page ---


class Reader(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(report, tmp_path):
    report.to_html(tmp_path / "r.html")
    return Reader((tmp_path / "r.html").read_text(encoding="utf-8"))


def test_the_page_holds_everything(tmp_path):
    page = page_of(full_report(), tmp_path)
    for words in (
        "DISAGREE",
        "0.b <tag> & more",
        "Entries located as wrong",
        "Points at which the gradient was checked",
        "T = 1",
        "The loss does not react to spare",
        "To resolve it: compute the loss in float64.",
    ):
        assert words in page.text
    assert len(page.of("table")) == 3
    assert len(page.of("svg")) == 2
    described = [a["aria-label"] for a in page.of("div") if a.get("role") == "img"]
    assert described[0].startswith("Gradient under test against numerical derivative, 72 entries")
    assert described[1].startswith("What the error bar of one derivative is made of")


def test_a_page_opens_without_a_network(report, tmp_path):
    page = page_of(report, tmp_path)
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    style = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", style)


def test_located_entries_are_counted_where_they_are_too_many(tmp_path):
    report = full_report()
    many = report.tensors["0.U"].wrong * 30
    object.__setattr__(report.tensors["0.U"], "wrong", many)
    text = page_of(report, tmp_path).text
    assert "The first 50 of 90" in text
    # Many rows come last: whoever reads on a telephone sees the figures first.
    assert text.index("The first 50 of 90") > text.index("which small steps magnify")


def test_who_disagrees_at_a_point_has_a_column_where_anyone_does(tmp_path):
    report = full_report()
    assert "tensors that disagree" in page_of(report, tmp_path).text
    fine = {"0.W": report.tensors["0.W"]}
    points = tuple(replace(point, tensors=fine) for point in report.points)
    assert "tensors that disagree" not in page_of(replace(report, points=points), tmp_path).text


def test_long_names_are_short_in_a_legend():
    report = full_report()
    report.tensors["encoder.recurrent_layers.0.weight_hh_l0"] = report.tensors.pop("0.W")
    labels = report.plot().get_legend_handles_labels()[1]
    assert "encoder.rec…weight_hh_l0" in labels
    assert max(map(len, labels)) <= 24


def test_what_a_stranger_wrote_is_text_and_no_markup(tmp_path):
    odd = Table(["<th>", "<script>"], [["<b>", "</script>"], ["<i>", "&"]], caption="<script>")
    sections = [PageSection("<script>", notes=["<img src=x>"], tables=[odd])]
    write_page(tmp_path / "p.html", "<b>", sections)
    page = Reader((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert len(page.of("script")) == 1  # the page's own
    assert len(page.of("th")) == 2
    assert not page.of("img") + page.of("b") + page.of("i")


def test_only_a_page_with_something_to_sort_has_a_script(tmp_path):
    for rows, scripts in (([], 0), ([["1"]], 0), ([["1"], ["2"]], 1)):
        write_page(tmp_path / "p.html", "t", [PageSection("s", tables=[Table(["a"], rows)])])
        page = Reader((tmp_path / "p.html").read_text(encoding="utf-8"))
        assert len(page.of("script")) == scripts


def test_sections_are_listed_where_there_are_many(tmp_path):
    sections = [PageSection(f"part {k}", status="agree" if k else "") for k in range(3)]
    write_page(tmp_path / "p.html", "t", sections)
    page = Reader((tmp_path / "p.html").read_text(encoding="utf-8"))
    targets = [a["href"][1:] for a in page.of("a")]
    assert targets == [section["id"] for section in page.of("section")]
    write_page(tmp_path / "p.html", "t", sections[:2])
    assert not Reader((tmp_path / "p.html").read_text(encoding="utf-8")).of("nav")


# --- the page of a derivation ---


@pytest.mark.parametrize("name", ["coupled_lstm", "lif"])
def test_a_derivation_as_a_page_has_every_line_with_its_number(name, tmp_path, capsys):
    page = tmp_path / "page.html"
    cells = Path(__file__).parents[1] / "examples" / "cells.py"
    assert main(["derive", f"{cells}:{name}", "--html", str(page)]) == 0
    derivation, text = tt.derive(derived_cells.CELLS[name]), unescape(page.read_text("utf-8"))
    assert capsys.readouterr().out.rstrip() == str(derivation).rstrip()
    for line in derivation.lines:
        assert f"<td>{line.right}</td>" in text, line.right
    assert all(line in text for line in derivation.numpy.splitlines())
    known = [check for check in derivation.checks if not np.isnan(check.numerical)]
    assert text.count(">agree</td>") == len(known)
    assert text.count(">unresolved</td>") == len(derivation.checks) - len(known)
    assert all(f"{check.numerical:.9f}" in text for check in known)
