/** The process of the client of short requests, and that of their floor: whichever is asked for. */
import { answer } from '../children.ts'
import { hammer, type Job } from './requests.ts'
import { serve, type Canned } from './canned.ts'

answer({ hammer: (job: Job) => hammer(job), serve: (canned: Canned) => serve(canned) })
