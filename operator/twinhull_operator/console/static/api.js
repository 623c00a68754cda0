// Requests to the console. A refusal becomes an error with the server's code and words.

export class Refused extends Error {
  constructor(status, error) {
    super(error.message || "The console did not do it.");
    this.status = status;
    this.code = error.code || "Unknown";
    this.fields = error;
  }
}

let csrf = "";
export const setCsrf = (token) => { csrf = token; };

export async function ask(path, body) {
  const request = { credentials: "same-origin", cache: "no-store", headers: {} };
  if (body !== undefined) {
    request.method = "POST";
    request.headers["Content-Type"] = "application/json";
    request.headers["X-CSRF-Token"] = csrf;
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Refused(0, { code: "Offline", message: "The console does not answer. Is the operator's pod running, and the way to it open?" });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error || {});
  return answer;
}
