"""A reader of the report turns to its model in a real browser: what is clicked is what is shown, and nothing leaves."""

import json
import math
import os
from pathlib import Path

import pytest

from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.session_store import SessionStore
from tests.truth.modelled_session import DOUBTFUL, dock_two, fill_with_models, judge_refined, refine_and_validate

pytest.importorskip("selenium", reason="selenium is not installed; `make setup` installs it")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.flows.browser import CHROMEDRIVER, CHROMIUM, browser

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="Chromium is absent; `bash infra/test-servers.sh` installs it where apt can",
    ),
]
SOFTWARE_WEBGL, NO_WEBGL = ("--enable-unsafe-swiftshader",), ("--disable-3d-apis",)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    store = SessionStore.create(str(tmp_path_factory.mktemp("modelled") / "session.zarr"), "modelled")
    return fill_with_models(store), Path(report_session.fn(store.url, ReportSessionParams()))


def opened(path, tmp_path, flags):
    """Pictures stay in a folder of the test; VITRIFLOW_PICTURES names another one."""
    pictures = Path(os.environ.get("VITRIFLOW_PICTURES") or tmp_path)
    return browser(path.as_uri(), tmp_path, pictures, flags, logs=("browser", "performance"))


def state(page) -> dict[str, str]:
    return page.driver.execute_script("return {...document.getElementById('model-view').dataset}")


def wait(page, condition):
    return WebDriverWait(page.driver, 60, 0.1).until(lambda _: condition())


def choose(page, name, value):
    page.driver.execute_script(
        "const e = document.querySelector(`#model-view [name=${arguments[0]}]`);"
        "if (e.type === 'checkbox') e.checked = arguments[1]; else e.value = arguments[1];"
        "e.dispatchEvent(new Event('change')); e.dispatchEvent(new Event('input'));",
        name,
        value,
    )


def drawn(page) -> tuple[int, ...]:
    """Pixels of the 3D view by what they show: orange, blue, grey."""
    return tuple(
        page.driver.execute_async_script(
            """
            const done = arguments[0], image = new Image();
            const url = document.getElementById("model-stage").viewer.pngURI();
            image.onload = () => {
              const canvas = document.createElement("canvas");
              canvas.width = image.width; canvas.height = image.height;
              const context = canvas.getContext("2d");
              context.drawImage(image, 0, 0);
              const p = context.getImageData(0, 0, canvas.width, canvas.height).data;
              const n = [0, 0, 0];
              for (let i = 0; i < p.length; i += 4) if (p[i + 3] && p[i] + p[i + 1] + p[i + 2] < 740)
                n[p[i] > p[i + 2] + 40 ? 0 : p[i + 2] > p[i] + 40 ? 1 : 2]++;
              done(n);
            };
            image.src = url;
            """
        )
    )


def test_a_model_is_looked_at_in_its_map(report, tmp_path):
    modelled, path = report
    with opened(path, tmp_path, SOFTWARE_WEBGL) as page:
        page.driver.set_script_timeout(60)
        page.open("")
        wait(page, lambda: state(page).get("state"))
        assert state(page)["state"] == "ready", page.text()
        assert state(page)["atoms"] == str(len(modelled.model)) and state(page)["strays"] == "0"
        page.driver.execute_script("document.getElementById('model').scrollIntoView({behavior: 'instant'})")

        # what is unsure is orange, what is sure is blue, the map is grey
        orange, blue, grey = drawn(page)
        assert orange > 100 and blue > 3 * orange and grey > blue
        page.picture("model")
        choose(page, "map", "none")
        assert drawn(page)[2] < grey / 2
        choose(page, "map", "surface")
        n_near = int(state(page)["triangles"])
        choose(page, "near", False)
        assert int(state(page)["triangles"]) > n_near > 1000
        choose(page, "level", "1e9")
        wait(page, lambda: int(state(page)["triangles"]) < n_near)

        # a click on the plot marks the residue, and one on the view marks it in the plot
        plot = page.driver.find_element(By.CSS_SELECTOR, "svg.profile")
        target = 40
        left, step = (float(plot.get_attribute(f"data-{name}") or 0) for name in ("left", "step"))
        scale = plot.size["width"] / 1240
        x = (left + step * (target + 0.5)) * scale - plot.size["width"] / 2
        ActionChains(page.driver).move_to_element_with_offset(plot, round(x), 0).click().perform()
        residue = modelled.model.residues[target]
        wait(page, lambda: state(page).get("residue") == f"{residue.chain}|{residue.number}|")
        told = page.driver.find_element(By.ID, "model-status").text
        assert told.startswith(f"{residue.chain}/{residue.name} {residue.number}")
        assert f"confidence {modelled.confidence[target]:.2f}".rstrip("0") in told
        cursor = plot.find_element(By.CSS_SELECTOR, ".cursor")
        assert cursor.get_attribute("visibility") == "visible"
        assert float(cursor.get_attribute("x") or 0) == pytest.approx(left + step * target)
        page.picture("model-residue")
        clicked = click_an_atom(page)
        wait(page, lambda: state(page)["residue"] == clicked)

        # a region is gone to from its link
        page.driver.execute_script("document.querySelector('a[data-first]').click()")
        wait(page, lambda: state(page)["residue"] == f"A|{DOUBTFUL.start + 1}|")
        assert float(cursor.get_attribute("width") or 0) == pytest.approx(step * (DOUBTFUL.stop - DOUBTFUL.start))
        for colour in ("chain", "confidence"):
            choose(page, "colour", colour)
            assert colour in page.driver.find_element(By.ID, "model-legend").text
        check_surface_of_a_ball(page)
        nothing_left(page, path)


def click_an_atom(page) -> str:
    """Click into the view where the Cα in front is; returns its residue as the view names it."""
    found = page.driver.execute_script(
        """
        const viewer = document.getElementById("model-stage").viewer;
        const shown = viewer.selectedAtoms({atom: "CA", chain: "A"}).map((a) => [a, viewer.modelToScreen(a)]);
        const box = document.getElementById("model-stage").getBoundingClientRect();
        const places = shown.map(([a, p]) => [`${a.chain}|${a.resi}|`, p.x - scrollX, p.y - scrollY]);
        return places.filter(([name, x, y]) => document.elementFromPoint(x, y)?.tagName === "CANVAS"
          && x > box.left + 50 && x < box.right - 50);
        """
    )
    before = state(page)["residue"]
    for _, x, y in found:
        actions = ActionChains(page.driver)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        actions.w3c_actions.pointer_action.click()
        actions.perform()
        if state(page)["residue"] != before:
            break
    assert state(page)["residue"] != before, found
    return state(page)["residue"]


def check_surface_of_a_ball(page):
    """The surface of a linear falling density is a ball of known area, with normals that point outwards."""
    area, worst = page.driver.execute_script(
        """
        const n = 40, c = [19.2, 20.1, 18.7], r = 12.3, v = new Float32Array(n ** 3);
        for (let i = 0; i < v.length; i++)
          v[i] = -Math.hypot(i % n - c[0], Math.floor(i / n) % n - c[1], Math.floor(i / n / n) - c[2]);
        const s = isosurface(v, [n, n, n], -r, null);
        let area = 0, worst = 0;
        for (let f = 0; f < s.faces.length; f += 3) {
          const [a, b, d] = [0, 1, 2].map((k) => s.vertices[s.faces[f + k]]);
          const u = [b.x - a.x, b.y - a.y, b.z - a.z], w = [d.x - a.x, d.y - a.y, d.z - a.z];
          area += Math.hypot(u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]) / 2;
        }
        s.vertices.forEach((p, k) => {
          const m = s.normals[k], out = [p.x - c[0], p.y - c[1], p.z - c[2]], d = Math.hypot(...out);
          worst = Math.max(worst, Math.abs(d - r), 1 - (out[0] * m.x + out[1] * m.y + out[2] * m.z) / d);
        });
        return [area, worst];
        """
    )
    assert area == pytest.approx(4 * math.pi * 12.3**2, rel=0.01)  # a polyhedron inside of the ball is smaller
    assert worst < 0.05


def nothing_left(page, path):
    """No request but for the page, and none that the policy had to stop."""
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    # the browser's own first page is made of chrome://
    assert {url for url in asked if not url.startswith(("data:", "blob:", "chrome:"))} == {path.as_uri()}
    complaints = [e["message"] for e in page.driver.get_log("browser") if e["level"] == "SEVERE"]
    assert complaints == []


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    store = SessionStore.create(str(tmp_path_factory.mktemp("judged") / "session.zarr"), "judged")
    modelled = fill_with_models(store)
    dock_two(store, modelled)
    refine_and_validate(store, modelled)
    judge_refined(store, modelled)
    return Path(report_session.fn(store.url, ReportSessionParams()))


def test_a_verdict_leads_to_the_residues_that_it_is_about(judged, tmp_path):
    with opened(judged, tmp_path, SOFTWARE_WEBGL) as page:
        page.driver.set_script_timeout(60)
        page.open("")
        wait(page, lambda: state(page).get("state"))
        page.sees("rebuild here", "Where model and prediction disagree", "Weak parts", "Docking")
        for identifier in ("verdict", "docking"):
            page.driver.execute_script(
                "document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})", identifier
            )
            page.picture(f"report-{identifier}")
        link = page.driver.find_element(By.CSS_SELECTOR, "#verdict td a[data-first]")
        page.driver.execute_script("arguments[0].click()", link)
        wait(page, lambda: state(page).get("residue") == f"A|{DOUBTFUL.start + 1}|")
        assert "map speaks for the prediction" in page.driver.find_element(By.ID, "model-status").text
        choose(page, "colour", "side")
        legend = page.driver.find_element(By.ID, "model-legend").text
        assert "as the prediction" in legend and "map speaks for the model" in legend
        choose(page, "colour", "weak_part")
        assert "weak part, mask_1" in page.driver.find_element(By.ID, "model-legend").text
        page.driver.set_window_size(700, 1000)  # nothing sticks out of a narrow window
        wide = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= page.driver.execute_script("return window.innerWidth")
        nothing_left(page, judged)


def test_without_webgl_the_pictures_stay_and_the_reason_is_told(report, tmp_path):
    _, path = report
    with opened(path, tmp_path, NO_WEBGL) as page:
        page.open("")
        wait(page, lambda: state(page).get("state"))
        assert state(page)["state"] == "failed"
        page.sees("The 3D view cannot be shown: this browser has no WebGL", "Pictures of the model in its map")
        picture = page.driver.find_element(By.CSS_SELECTOR, "#model-still img")
        page.driver.execute_script("arguments[0].scrollIntoView()", picture)
        assert picture.is_displayed() and picture.size["width"] > 500
        page.picture("model-without-webgl")
        nothing_left(page, path)
