"""The weather file of `examples/canopy.py`: what is wrong with a bad one is said in a line."""

from pathlib import Path

import pytest

import scripts

SCRIPT = Path(__file__).parent.parent / "examples" / "canopy.py"
COLUMNS = "day_of_year,hour,air_temperature,vapour_pressure,shortwave,wind_speed,co2,pressure"
GOOD = "180,12.5,298.15,1500,700,2,420,97000"


def run(tmp_path: Path, text: str | None) -> scripts.Done:
    path = tmp_path / "weather.csv"
    if text is not None:
        path.write_text(text)
    return scripts.run(SCRIPT, tmp_path, "--forcing", str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected a file that can be read"),
        ("", "expected the columns day_of_year, hour"),
        (f"{COLUMNS.replace('co2,', '')}\n", "got none of day_of_year (d)"),
        (f"{COLUMNS.replace('co2', 'carbon')}\n{GOOD}\n", "got none of co2 (µmol mol⁻¹)"),
        (f"{COLUMNS}\n{GOOD}\n{GOOD.replace('298.15', '25.0')}\n", "air_temperature from 200 to 340 K in line 3"),
        (f"{COLUMNS}\n{GOOD.replace('700', 'n/a')}\n", "shortwave from 0 to 1500 W m⁻² in line 2"),
        (f"{COLUMNS}\n{GOOD.replace(',2,', ',,')}\n", "wind_speed from 0.01 to 60 m s⁻¹ in line 2"),
        (f"{COLUMNS}\n{GOOD.replace('420', 'nan')}\n", "co2 from 100 to 3000"),
        (f"{COLUMNS}\n180,12.5\n", "air_temperature from 200 to 340 K in line 2"),
    ],
)
def test_a_bad_file(tmp_path, text, words):
    done = run(tmp_path, text)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_good_file(tmp_path):
    """Two days of 48 half-hours, from which everything is computed."""
    lines = [COLUMNS]
    for i in range(96):
        day, half_hour = 180 + i // 48, i % 48
        light = max(0, 700 - 60 * abs(half_hour - 24))
        lines.append(f"{day},{half_hour / 2},{290 + half_hour / 6:.2f},1400,{light},2,420,97000")
    done = run(tmp_path, "\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert "960 leaves: 960 solved" in done.stdout
