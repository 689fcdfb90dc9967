"""Describes the API of a server as OpenAPI 3.1, from its routes."""

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.routing import Route

from rlsp_tf._version import __version__
from rlsp_tf.serving.wire import MEDIA_TYPES

BINARY: dict[str, Any] = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "One sentence: what is wrong and what to do."}},
}
SESSION = {
    "type": "object",
    "required": ["session", "model", "width", "height", "scale", "latency"],
    "properties": {
        "session": {"type": "string", "description": "Name of the session, for the paths of its frames."},
        "model": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "scale": {"type": "integer", "description": "How many times larger frames become."},
        "latency": {"type": "integer", "description": "Number of frames by which the answers are late."},
    },
}
JOB = {
    "type": "object",
    "required": ["job", "state", "model", "container", "frames", "total", "rate", "left", "notes", "error"],
    "properties": {
        "job": {"type": "string", "description": "Name of the job, for its paths."},
        "state": {"enum": ["waiting", "running", "done", "failed"]},
        "model": {"type": "string"},
        "container": {"enum": ["mp4", "mkv"]},
        "frames": {"type": "integer", "description": "Frames of the result that are finished."},
        "total": {"type": ["integer", "null"], "description": "Frames that the result will have."},
        "rate": {"type": ["number", "null"], "description": "Frames per second."},
        "left": {"type": ["number", "null"], "description": "Estimated seconds until the job is done."},
        "notes": {"type": "array", "items": {"type": "string"}},
        "error": {"type": ["string", "null"]},
    },
}
EVENT = {"type": "object", "properties": {"data": {"type": "string", "description": "A Job, as JSON."}}}
ABOUT = {"type": "object", "required": ["rlsp_tf", "models", "limits"]}
SCHEMAS = {"Error": ERROR, "Session": SESSION, "Job": JOB, "About": ABOUT}

REFUSALS = {
    400: "The request is not as described.",
    401: "The request has no valid token.",
    403: "The request comes from another web site, or is meant for a server of another name.",
    404: "There is nothing of this name.",
    408: "The request came too slowly.",
    409: "It is not the turn of this request.",
    410: "There is no such session any more.",
    413: "The request exceeds a limit of this server.",
    415: "The body has a format that cannot be read.",
    429: "This client sends too many requests; Retry-After says when to try again.",
    500: "The server failed, by a fault of its own.",
    503: "The server is busy or shutting down; Retry-After says when to try again.",
}
RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
EVERYWHERE = (401, 403, 429, 500, 503)
"""Errors that any request can be answered with."""


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _query(name: str, description: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
    }


_PIXELS = {"type": "integer", "minimum": 1}
_MODEL = _query("model", "The first one by default.", {"type": "string"})
_FRAMES = dict.fromkeys(MEDIA_TYPES, BINARY)
_VIDEOS = {"video/mp4": BINARY, "video/x-matroska": BINARY}
_UPLOAD: dict[str, Any] = {
    "query": [
        _MODEL,
        _query("container", "Of the result.", {"enum": ["mp4", "mkv"], "default": "mp4"}),
    ],
    "body": {"application/octet-stream": {"schema": {**BINARY["schema"], "minLength": 1}}},
    "refusals": (400, 408, 413),
}
OPERATIONS: dict[str, dict[str, Any]] = {
    "about": {"summary": "Version, models and limits of the server.", "answers": {200: _json("About")}},
    "health": {
        "summary": "Whether the server works. Needs no token.",
        "answers": {200: {"application/json": {"schema": {"type": "object"}}}},
    },
    "metrics": {
        "summary": "Counters for Prometheus.",
        "answers": {200: {"text/plain": {"schema": {"type": "string"}}}},
    },
    "api": {
        "summary": "This description.",
        "answers": {200: {"application/json": {"schema": {"type": "object"}}}},
    },
    "begin": {
        "summary": "Begins a session: a clip that is sent frame by frame.",
        "query": [
            _query("width", "Of the frames, in pixels.", _PIXELS, required=True),
            _query("height", "Of the frames, in pixels.", _PIXELS, required=True),
            _MODEL,
        ],
        "answers": {201: _json("Session")},
        "refusals": (400, 413),
    },
    "frame": {
        "summary": "Sends a frame; the answer is the one before it, upscaled.",
        "body": _FRAMES,
        "answers": {200: _FRAMES, 204: None},
        "refusals": (400, 404, 408, 409, 410, 413, 415),
    },
    "flush": {
        "summary": "Ends a session; the answer is its last frame, upscaled.",
        "answers": {200: _FRAMES, 204: None},
        "refusals": (404, 410),
    },
    "video": {
        "summary": "Upscales a video; the answer comes when all of it is done.",
        "answers": {200: _VIDEOS},
        **_UPLOAD,
        "refusals": (*_UPLOAD["refusals"], 415),
    },
    "stream": {
        "summary": "Upscales a video; the answer, Matroska, is sent while it is made.",
        "answers": {200: {"video/x-matroska": BINARY}},
        **_UPLOAD,
        "query": [_MODEL],
        "refusals": (*_UPLOAD["refusals"], 415),
    },
    "submit": {
        "summary": "Uploads a video as a job, which is upscaled in the background.",
        "answers": {202: _json("Job")},
        **_UPLOAD,
    },
    "job": {"summary": "How far a job is.", "answers": {200: _json("Job")}, "refusals": (404,)},
    "remove": {
        "summary": "Stops a job if it has not ended, and removes it.",
        "answers": {204: None},
        "refusals": (404,),
    },
    "events": {
        "summary": "The answer of GET /jobs/{job}, every second until the job ends, as server-sent events.",
        "answers": {200: {"text/event-stream": {"schema": EVENT}}},
        "refusals": (404,),
    },
    "result": {
        "summary": "The result of a job that is done.",
        "answers": {200: _VIDEOS, 206: _VIDEOS},
        "refusals": (404, 409, 413, 415),
    },
}
"""Description of each route, by the name of its endpoint."""


def describe_api(routes: Sequence[Any], models: Iterable[str], pixels: int) -> dict[str, Any]:
    """Returns the OpenAPI document for some routes.

    Args:
        routes: routes of Starlette, whose endpoints are in ``OPERATIONS``.
        models: names of the models.
        pixels: largest number of pixels of a frame.
    """
    schemas = {
        "model": {"enum": list(models)},
        "width": {**_PIXELS, "maximum": pixels},
        "height": {**_PIXELS, "maximum": pixels},
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        assert isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = _describe(route.endpoint.__name__.lstrip("_"), route.path)
            operation["parameters"] = [
                {**each, "schema": schemas.get(each["name"], each["schema"])}
                for each in operation["parameters"]
            ]
            paths.setdefault(route.path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rlsp serve",
            "version": __version__,
            "description": "Makes video four times larger in each direction.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Whether a server needs tokens depends on its --token-file.
        "security": [{}, {"token": []}],
    }


def _describe(name: str, path: str) -> dict[str, Any]:
    known = OPERATIONS[name]
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {
            "name": each,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999}
            if each == "index"
            else {"type": "string"},
        }
        for each in names
    ]
    responses = {
        str(status): {"description": known["summary"]} | ({"content": content} if content else {})
        for status, content in known["answers"].items()
    }
    for status in sorted({*known.get("refusals", ()), *EVERYWHERE}):
        responses[str(status)] = {"description": REFUSALS[status], "content": _json("Error")}
        if status in (429, 503):
            responses[str(status)]["headers"] = RETRY_AFTER
    operation = {
        "operationId": name,
        "summary": known["summary"],
        "parameters": parameters + known.get("query", []),
        "responses": responses,
    }
    if "body" in known:
        operation["requestBody"] = {"required": True, "content": known["body"]}
    return operation
