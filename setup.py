"""Packages are found; the two folders at the top that users edit are installed inside `ppl_vae`."""

from setuptools import find_packages, setup

setup(
    package_data={"ppl_vae": ["py.typed", "*.pyi"], "ppl_vae.reports": ["assets/*"]},
    packages=[*find_packages(include=["ppl_vae", "ppl_vae.*"]), "ppl_vae.models", "ppl_vae.guides"],
    package_dir={"ppl_vae.models": "models", "ppl_vae.guides": "guides"},
)
