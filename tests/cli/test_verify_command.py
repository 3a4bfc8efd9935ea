"""`flukeprint verify`: what arrives at the library; tests/identify compares real photos."""

from pathlib import Path

import pytest

from flukeprint.cli.main import main


@pytest.mark.parametrize(("options", "printed"), [([], "words\n"), (["--json"], "{}\n")])
def test_two_photos_a_model_and_a_form(stub, capsys, options, printed):
    opened = stub("flukeprint.bundle.opening.open_model", "model")
    compared = stub("flukeprint.identify.pair.compare", "found")
    worded = {
        form: stub(f"flukeprint.identify.pair.as_{form}", text) for form, text in (("text", "words"), ("json", "{}"))
    }
    main(["verify", "a.jpg", "b.jpg", "--bundle", "there", *options])
    assert opened == [((Path("there"), None), {})]
    assert compared == [(("model", Path("a.jpg"), Path("b.jpg")), {})]
    assert worded["json" if options else "text"] == [(("found",), {})]
    assert capsys.readouterr().out == printed
