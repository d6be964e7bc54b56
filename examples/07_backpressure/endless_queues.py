"""The same, with a queue and a task for each tab: none waits for another, and none has a limit."""

import asyncio

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
queues = set()


def broadcast(text):
    for queue in queues:
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
    queue = asyncio.Queue()
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
