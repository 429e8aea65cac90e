// Talking to the application's own routes: JSON in, JSON out, errors with their sentence in both languages.

/** Answer of a route; throws an Error whose `both` holds the server's sentence in both languages. */
export async function askServer(url, options = {}) {
  const response = await fetch(url, { credentials: "same-origin", ...options });
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw Object.assign(new Error(`${response.status}`), { both: answer.error, status: response.status });
}

/** JSON of a route; a `body` is sent as JSON, by POST unless told otherwise. */
export async function json(url, body, method, signal) {
  const options = body === undefined ? { method, signal } : { signal, method: method ?? "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await askServer(url, options)).json();
}

/** Send one file as a request's body, its name kept back; `progress(share)` is told how far it is. */
export function sendFile(url, file, progress = () => {}) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const lost = () => resolve({ error: null });
    request.open("POST", url);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => resolve(request.response ?? { error: null });
    request.onerror = lost;
    request.onabort = lost;
    progress(0);
    request.send(file);
  });
}
