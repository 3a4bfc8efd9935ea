"""The review page, asked as a browser does."""

from __future__ import annotations

import html
import re
from typing import Any

from flukeprint.catalogue.catalogues import Catalogue


class Browser:
    """A client that keeps cookies and sends forms with the token of the page that it saw."""

    def __init__(self, catalogue: Catalogue, who: str = "ann", **settings: Any) -> None:
        from starlette.testclient import TestClient

        from flukeprint.review.application import review_application
        from flukeprint.review.settings import ReviewSettings

        self.app = review_application(ReviewSettings(catalogue.place, who, **settings))
        self.client = TestClient(self.app, base_url="http://127.0.0.1:8420", raise_server_exceptions=False)
        self.page = ""

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        self.page = answer.text
        return self.page

    def field(self, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        assert found, f"no field {name}"
        return html.unescape(found[1])

    def post(self, path: str, status: int = 303, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        content = {"token": self.field("token")} | fields
        answer = self.client.post(path, data=content, headers=headers, follow_redirects=False)
        assert answer.status_code == status, answer.text
        return answer

    def decide(self, encounter: int, action: str, individual: str = "", status: int = 303, **fields: Any) -> Any:
        """Decide as the page that was last got has it."""
        fields = {"action": action, "individual": individual, "seen": self.field("seen")} | fields
        return self.post(f"/encounters/{encounter}/decide", status, **fields)
