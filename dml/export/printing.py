"""What the command says of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["print_certificate"]


def print_certificate(folder: str, certificate: Mapping[str, Any]) -> None:
    """The certificate in a few lines."""
    model, on, run = (certificate[key] for key in ("model", "measured_on", "run"))
    print(
        f"{folder}: {model['run']}/{model['checkpoint']} {model['fingerprint'][:12]} in {certificate['precision']}, "
        f"measured on {on['images']:,} {on['part']} images"
    )
    for name, of in certificate.items():
        if not name.startswith("model."):
            continue
        largest, allowed = max(of["largest_difference"].values()), certificate["bounds"]["difference"]
        print(
            f"  {name}: vectors differ by {largest:.1e} at most ({allowed:.0e} allowed), "
            f"{of['first_answers']:.1%} of first answers agree"
        )
        if of["map@r"] is not None:
            print(f"    map@r {of['map@r']:.2%}, that of the run {run['map@r']:.2%}")
        whole = of.get("images_per_second_in_fp32")
        beside = "" if whole is None else f", in fp32 {whole:,.0f}"
        print(
            f"    {of['images_per_second']:,.0f} images a second{beside}; the run {run['images_per_second']:,.0f}"
        )
