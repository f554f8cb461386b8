// Function for the tests of `lab serve`.

export async function handler(event) {
  if (event.error) throw new RangeError(event.error);
  console.log("handling", event.name);
  return { event, memory: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE, variable: process.env[event.variable] };
}
