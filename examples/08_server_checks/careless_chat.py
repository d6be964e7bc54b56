"""A chat that streams replies and counts those under way, as most are written."""

import asyncio

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])

counts = {"replies_under_way": 0}


class Question(BaseModel):
    text: str


def ask_model(text):
    """Stands for a model: it repeats what you say, and is down now and then."""
    if text == "are you down?":
        raise ConnectionError("the model is down")
    return text.split() * 25


@app.post("/chat")
async def chat(question: Question):
    words = ask_model(question.text)

    async def reply():
        counts["replies_under_way"] += 1
        for word in words:
            yield f"data: {word}\n\n"
            await asyncio.sleep(0.01)  # the next word takes so long
        counts["replies_under_way"] -= 1

    return StreamingResponse(reply(), media_type="text/event-stream")


@app.get("/metrics")
async def metrics():
    return counts
