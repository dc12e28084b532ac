import re

from calib_jax.report import style


def test_both_colour_schemes_define_the_same_variables():
    css = next(
        value for value in vars(style).values() if isinstance(value, str) and "--ink" in value
    )
    light, dark = css.split("prefers-color-scheme: dark", 1)
    names = set(re.findall(r"(--[\w-]+):", light))
    assert names
    assert names >= set(re.findall(r"(--[\w-]+):", dark.split("}", 1)[0]))
    assert set(re.findall(r"var\((--[\w-]+)", css)) <= names
    assert "http" not in css
