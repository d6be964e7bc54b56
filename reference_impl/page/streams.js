// The three ways in which a message is streamed. Each is started with a server, a message and whom
// to tell, and returns what stops it. It tells `text`, `arrival`, `update` and, once, `over`.

function ask(server, path, message) {
  return new URL(`${path}?${new URLSearchParams({ message })}`, server);
}

// An `error` that the server sends has data; where the connection is lost there is none.
function saidBy(event) {
  if (event.data === undefined) return null;
  const { type, message } = JSON.parse(event.data).error;
  return `error: ${type}, ${message}`;
}

function events(address, listeners, over) {
  const source = new EventSource(address);
  for (const [name, listener] of Object.entries(listeners)) {
    source.addEventListener(name, (event) => listener(JSON.parse(event.data)));
  }
  // At the end of a stream an EventSource connects again, and would have the turn run again.
  source.addEventListener("error", (event) => {
    source.close();
    over(saidBy(event));
  });
  return () => source.close();
}

function tokens(server, message, tell) {
  let end = "cut off";
  return events(
    ask(server, "/agents/demo/run", message),
    {
      delta: ({ text }) => tell.arrival(text),
      tool_call: ({ name, arguments: given }) => tell.note(`${name}(${JSON.stringify(given)})`),
      tool_result: ({ content }) => tell.note(`returned ${content}`),
      done: () => {
        end = "done";
      },
    },
    (error) => tell.over(error ?? end),
  );
}

function updates(server, message, tell) {
  let end = "cut off";
  return events(
    ask(server, "/page/tool-calls", message),
    {
      delta: ({ text }) => tell.text(text),
      tool_call: ({ arguments: given }) => tell.update(given?.text ?? "", end === "done"),
      done: () => {
        end = "done";
      },
    },
    (error) => tell.over(error ?? end),
  );
}

function flushes(server, message, tell) {
  const leaving = new AbortController();
  readChunks(server, message, tell, leaving.signal).then(tell.over, (error) => {
    if (!leaving.signal.aborted) tell.over(`cut off: ${error.message}`);
  });
  return () => leaving.abort();
}

async function readChunks(server, message, tell, signal) {
  const response = await fetch(new URL("/v1/chat/completions", server), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ stream: true, messages: [{ role: "user", content: message }] }),
    signal,
  });
  if (!response.ok) return `refused: ${response.status}`;
  let end = "cut off";
  let pending = "";
  for await (const chunk of chunksOf(response.body.pipeThrough(new TextDecoderStream()))) {
    tell.arrival("");
    const lines = (pending + chunk).split("\n\n");
    pending = lines.pop();
    for (const line of lines) {
      const data = line.replace(/^data: /, "");
      if (data === "[DONE]") {
        end = "done";
        continue;
      }
      const { choices, error } = JSON.parse(data);
      if (error) end = `error: ${error.type}, ${error.message}`;
      else if (choices[0].delta.content) tell.text(choices[0].delta.content);
    }
  }
  return end;
}

async function* chunksOf(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

export const STREAMS = { tokens, flushes, updates };
