// Starts Swagger UI on the document of the router that served this page. A token is kept in the memory of the page, and
// nowhere else: it is gone with the page.
window.addEventListener('DOMContentLoaded', () => {
  window.SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#docs',
    deepLinking: true,
    docExpansion: 'none',
    persistAuthorization: false,
    validatorUrl: null,
    queryConfigEnabled: false,
    syntaxHighlight: false,
    tagsSorter: 'alpha',
  })
})
