// The three ways to stream a message. Each function takes a server, a message and handlers, starts
// the stream and returns a function that stops it. It calls the handlers `text`, `arrival`, `note` and
// `update` as the stream goes on, and `end` once.

function addressOf(server, path, message) {
  return new URL(`${path}?${new URLSearchParams({ message })}`, server);
}

// An `error` event from the server has data; the one of a lost connection has none.
function errorText(event) {
  if (event.data === undefined) return null;
  const { type, message } = JSON.parse(event.data).error;
  return `error: ${type}, ${message}`;
}

function events(address, listeners, onEnd) {
  const source = new EventSource(address);
  for (const [name, listener] of Object.entries(listeners)) {
    source.addEventListener(name, (event) => listener(JSON.parse(event.data)));
  }
  // An EventSource reconnects at the end of a stream, which would run the turn again.
  source.addEventListener("error", (event) => {
    source.close();
    onEnd(errorText(event));
  });
  return () => source.close();
}

function tokens(server, message, handlers) {
  let end = "cut off";
  return events(
    addressOf(server, "/agents/demo/run", message),
    {
      delta: ({ text }) => handlers.arrival(text),
      tool_call: ({ name, arguments: args }) => handlers.note(`${name}(${JSON.stringify(args)})`),
      tool_result: ({ content }) => handlers.note(`returned ${content}`),
      done: () => {
        end = "done";
      },
    },
    (error) => handlers.end(error ?? end),
  );
}

function updates(server, message, handlers) {
  let end = "cut off";
  return events(
    addressOf(server, "/page/tool-calls", message),
    {
      delta: ({ text }) => handlers.text(text),
      tool_call: ({ arguments: args }) => handlers.update(args?.text ?? "", end === "done"),
      done: () => {
        end = "done";
      },
    },
    (error) => handlers.end(error ?? end),
  );
}

function flushes(server, message, handlers) {
  const aborting = new AbortController();
  readChunks(server, message, handlers, aborting.signal).then(handlers.end, (error) => {
    if (!aborting.signal.aborted) handlers.end(`cut off: ${error.message}`);
  });
  return () => aborting.abort();
}

async function readChunks(server, message, handlers, signal) {
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
    handlers.arrival("");
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
      else if (choices[0].delta.content) handlers.text(choices[0].delta.content);
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
