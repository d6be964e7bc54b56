"""The same, with a limit for each queue: a tab that is slow misses what is oldest, and no more."""

import asyncio

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
queues = set()


def broadcast(text):
    for queue in queues:
        if queue.full():
            queue.get_nowait()  # the tab is slow: what is newest tells it more
        queue.put_nowait(text)


async def tell(tab, queue):
    while True:
        await tab.send_text(await queue.get())


async def listen(tab):
    while True:
        await tab.receive_text()


@app.websocket("/progress")
async def watch(tab: WebSocket):
    await tab.accept()
    queue = asyncio.Queue(maxsize=16)
    queues.add(queue)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tell(tab, queue))
            tasks.create_task(listen(tab))
    except* WebSocketDisconnect:
        pass  # it was closed
    finally:
        queues.remove(queue)


@app.post("/progress")
async def progress(request: Request):  # from the agent, wherever it runs
    broadcast((await request.body()).decode())


@app.get("/metrics")
async def metrics():
    return {"tabs": len(queues)}
