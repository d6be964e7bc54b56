"""How far an agent is, told to every browser tab: by one loop over all of them, as tutorials do."""

from contextlib import suppress

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
tabs = []


async def broadcast(text):
    for tab in tuple(tabs):
        with suppress(WebSocketDisconnect, RuntimeError):  # it was closed meanwhile
            await tab.send_text(text)


@app.websocket("/progress")
async def watch(tab: WebSocket):
    await tab.accept()
    tabs.append(tab)
    try:
        while True:
            await tab.receive_text()
    except WebSocketDisconnect:
        tabs.remove(tab)


@app.post("/progress")
async def progress(request: Request):  # from the agent, wherever it runs
    await broadcast((await request.body()).decode())


@app.get("/metrics")
async def metrics():
    return {"tabs": len(tabs)}
