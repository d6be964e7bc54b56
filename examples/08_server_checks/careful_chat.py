"""The same chat: it counts down however a reply ends, and errors have the headers, too."""

import asyncio

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

api = FastAPI()
# Around the whole of it: `add_middleware` puts it inside of what answers when something raises.
app = CORSMiddleware(api, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])

counts = {"replies_under_way": 0}


class Question(BaseModel):
    text: str


def ask_model(text):
    """Stands for a model: it repeats what you say, and is down now and then."""
    if text == "are you down?":
        raise ConnectionError("the model is down")
    return text.split() * 25


@api.post("/chat")
async def chat(question: Question):
    words = ask_model(question.text)

    async def reply():
        counts["replies_under_way"] += 1
        try:
            for word in words:
                yield f"data: {word}\n\n"
                await asyncio.sleep(0.01)  # the next word takes so long
        finally:
            counts["replies_under_way"] -= 1

    return StreamingResponse(reply(), media_type="text/event-stream")


@api.get("/metrics")
async def metrics():
    return counts
