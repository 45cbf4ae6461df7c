"""The page that shows the API's description (`/docs`): all of it is ours to serve, nothing comes from elsewhere."""

from functools import cache
from importlib.resources import files

from fastapi import FastAPI, Response

from sentinel.errors import NotFound

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sentinel</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
});
"""
_MEDIA = {"start.js": "text/javascript", "swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


def add_docs(app: FastAPI) -> None:
    """Have an application show its description at `/docs`; addresses in it are relative, below whatever prefix."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(_PAGE, media_type="text/html")

    @app.get("/docs/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in _MEDIA:
            raise NotFound("The page has no such part; GET / lists what is here")
        return Response(_part(name), media_type=_MEDIA[name], headers={"cache-control": "max-age=3600"})


@cache
def _part(name: str) -> bytes:
    if name == "start.js":
        return _START.encode()
    return (files("fastapi_offline") / "static" / name).read_bytes()
