// Loaded into a process of the shop before its own code: on SIGUSR2 a promise is rejected that nobody listens to.
process.on('SIGUSR2', () => void Promise.reject(new Error('Nobody listens to this')));
