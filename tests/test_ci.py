"""The workflow, the citation and the package say the same."""

import os
import tomllib
from pathlib import Path

import pytest
import yaml

import draw_jax

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def test_the_workflow_tests_every_python_from_the_oldest_on(workflow, project):
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert all(isinstance(version, str) for version in versions)  # 3.10 unquoted would be 3.1
    oldest = project["project"]["requires-python"].removeprefix(">=")
    minors = [int(version.removeprefix("3.")) for version in versions]
    assert versions[0] == oldest and len(versions) >= 3
    assert minors == list(range(minors[0], minors[0] + len(minors)))
    (setup,) = [s for s in workflow["jobs"]["test"]["steps"] if "setup-python" in s.get("uses", "")]
    assert setup["with"]["python-version"] == "${{ matrix.python }}"


def test_the_workflow_runs_the_script_on_every_change_and_may_only_read(workflow):
    job = workflow["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert 0 < job["timeout-minutes"] <= 30


def test_the_script_runs_the_tests_that_the_default_run_leaves_out(project):
    options = project["tool"]["pytest"]["ini_options"]
    assert "not slow" in options["addopts"]
    assert any(marker.startswith("slow:") for marker in options["markers"])
    assert ".venv/bin/pytest -m slow" in (ROOT / ".ci/run").read_text().splitlines()


def test_the_citation_is_of_this_version_and_of_the_paper(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == draw_jax.__version__
    assert citation["license"] == project["project"]["license"]
    assert citation["keywords"] == project["project"]["keywords"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Gregor", "Danihelka", "Graves", "Rezende", "Wierstra")
    ]
    assert (paper["year"], paper["volume"], paper["start"], paper["end"]) == (2015, 37, 1462, 1471)
    assert paper["url"].endswith("1502.04623")
